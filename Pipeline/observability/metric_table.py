"""Every metric of the four scripts: its name, kind, unit and meaning. `docs/metrics.md` explains.

Names follow https://prometheus.io/docs/practices/naming/: base units, the unit in the name. The
exposition adds `_total` to counters.
"""

from __future__ import annotations

from dataclasses import dataclass

# From a few images to the largest batches that anybody asks for.
BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
# One image on a fast CPU is 0.2 ms; a batch of large ones on a slow CPU is seconds.
INFERENCE_BUCKETS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
# From a few milliseconds, at light load, to an hour, after an outage.
LATENCY_BUCKETS = (
    0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0,
    10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
)  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """The name of a metric, and what it tells."""

    name: str
    help: str
    buckets: tuple[float, ...] = ()


# By script: the fields of its tally, each a counter.
COUNTERS: dict[str, dict[str, Metric]] = {
    "app_1": {
        "done": Metric("serving_images_published", "Images that the broker has confirmed."),
        "failed": Metric(
            "serving_images_failed", "Images that were not published: refused or unreadable."
        ),
    },
    "model_server_sub": {
        "done": Metric("serving_images_predicted", "Images whose results are in the queue."),
        "dead_lettered": Metric("serving_messages_dead_lettered", "Messages moved away as bad."),
    },
    "model_server_pub": {
        "done": Metric("serving_results_published", "Results that the broker has confirmed."),
        "dead_lettered": Metric("serving_messages_dead_lettered", "Queue lines moved away as bad."),
    },
    "app_2": {
        "done": Metric("serving_results_stored", "Results that are new in the DB."),
        "duplicates": Metric("serving_duplicates_suppressed", "Results that the DB had already."),
        "conflicts": Metric("serving_conflicts", "Results that the DB has with another label."),
        "dead_lettered": Metric("serving_messages_dead_lettered", "Messages moved away as bad."),
    },
}

RECEIVED = Metric("serving_messages_received", "Messages handed out by the subscription.")
LATE_ACKS = Metric("serving_late_acks", "Acks after the lease was lost: those messages come again.")
RELOADS = Metric("serving_model_reloads", "Checkpoints looked at, by outcome.")
SHADOW = Metric("serving_shadow_images", "Images that the shadow predicted or dropped, by outcome.")
LOG_LINES = Metric("serving_log_messages", "Warnings and errors logged.")

BATCH = Metric("serving_batch_messages", "Messages worked on together.", BATCH_BUCKETS)
INFERENCE = Metric(
    "serving_inference_seconds", "Time of the model for one batch.", INFERENCE_BUCKETS
)
LATENCY = Metric(
    "serving_end_to_end_latency_seconds",
    "From published to durable in the DB.",
    LATENCY_BUCKETS,
)

# Only one of each works on a queue, or on a DB; others wait for its end.
STANDBY_SCRIPTS = ("model_server_pub", "app_2")

SCRIPT_INFO = Metric("serving_script", "Which script this is, and on which broker.")
MODEL_INFO = Metric("serving_model", "The model that answers now.")
READY = Metric("serving_ready", "1 while the script is at work and its broker answers.")
STANDBY = Metric("serving_standby", "1 while another process does the work of this one.")
WAITING = Metric("serving_waiting", "1 while something is waited for, by reason.")
STALLED = Metric(
    "serving_stalled_seconds", "For how long messages have waited and nothing was done."
)
BACKLOG = Metric("serving_subscription_backlog_messages", "Messages that are not acknowledged.")
QUEUE_DEPTH = Metric("serving_queue_depth_records", "Results in the queue, not yet published.")
QUEUE_AGE = Metric("serving_queue_oldest_age_seconds", "Age of the oldest result in the queue.")
DB_ROWS = Metric("serving_db_rows", "Lines in the DB.")
DRAIN = Metric("serving_drain_seconds", "Until nothing waits, as it goes now; +Inf while it grows.")
DEAD_LETTERS = Metric("serving_dead_letters", "Letters that lie in a dead-letter topic.")
QUEUE_BYTES = Metric("serving_queue_bytes", "Size of the queue's files.")
QUEUE_FREE = Metric("serving_queue_disk_free_bytes", "What is left on the disk of the queue.")
DB_BYTES = Metric("serving_db_bytes", "Size of the DB's files.")
DB_FREE = Metric("serving_db_disk_free_bytes", "What is left on the disk of the DB.")
PREDICTIONS = Metric("serving_predictions", "Durable predictions, by model and label.")
CONFIDENCE = Metric("serving_prediction_confidence", "Confidence of these, by model.")
