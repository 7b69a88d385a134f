"""Files that crash their runtime: a running server goes on, one that starts has named the file."""

from __future__ import annotations

import signal

import numpy as np

from MessageBroker import OutgoingMessage
from Modelling.data_preparation import encode_npy
from Modelling.network.replacing import write_atomically
from tests.modelling.crashers import (
    SHIPPED,
    tflite_with_options_of_another_operator,
    with_form,
    write_labels,
)
from tests.operations.scripts import scrape
from tests.pipeline.runner import PATIENCE_SECONDS, Pipeline
from tests.servers import free_port


def test_a_file_that_crashes_its_runtime_is_refused_and_the_served_models_go_on(
    pipeline: Pipeline,
) -> None:
    """As the compiled form of the served one, and as the canary."""
    port, crashes = free_port(), tflite_with_options_of_another_operator()
    served = with_form(pipeline.folder, SHIPPED.read_bytes())
    canary = pipeline.folder / "canary.tflite"
    canary.write_bytes(SHIPPED.read_bytes())
    write_labels(canary)
    sub = pipeline.sub(
        "--checkpoint", served, "--canary", f"{canary}:0.5", "--metrics-port", port
    ).ready()
    pipeline.pub().ready()
    pipeline.app_2().ready()
    with_form(pipeline.folder, crashes)
    sub.process.send_signal(signal.SIGHUP)
    sub.says(f"goes on: {served}: it crashed the process that tried it (SIG")
    write_atomically(canary, crashes)
    write_labels(canary)
    sub.says(f"goes on: {canary}: it crashed the process that tried it (SIG")
    assert scrape(port).values['serving_model_reloads{outcome="refused"}'] == 2
    digit = encode_npy(np.eye(28, dtype=np.uint8) * 255)
    pipeline.connect().publish_batch(pipeline.images, [OutgoingMessage(digit) for _ in range(20)])
    pipeline.wait_for_rows(20)
    models = {str(row["model"]).partition("@")[0] for row in pipeline.rows()}
    assert models == {"shipped", "canary"}
    sub.terminate()


def test_a_start_with_a_file_that_crashes_its_runtime_has_named_it(pipeline: Pipeline) -> None:
    path = pipeline.folder / "bad.tflite"
    path.write_bytes(tflite_with_options_of_another_operator())
    sub = pipeline.sub("--checkpoint", path)
    assert sub.process.wait(PATIENCE_SECONDS) < 0
    assert sub.output.strip().splitlines()[-1].endswith(f"opening {path}")
