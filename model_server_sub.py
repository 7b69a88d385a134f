"""model_server_sub: consumes images, classifies them, appends the results to the queue.

Examples:
    python model_server_sub.py
    python model_server_sub.py --checkpoint mine.keras --threads 2
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.require_posix()
    first_signals.end_quietly()
    first_signals.survive_hangup()

import argparse
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable
from pathlib import Path

from DurableText.program.option_types import count_or_none, path_name, positive, probability
from DurableText.program.wording import counted
from MessageBroker import BrokerInterface
from Modelling.classifier import load_classifier
from Modelling.cores import threads_option
from Modelling.images.decoding_pool import IMAGE_SECONDS, DecodingPool
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, Checkpoint
from Modelling.network.declared_size import add_max_model_bytes
from Modelling.network.input_range import input_range_option
from Modelling.predictor import PredictorSource, labels_of
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from Modelling.predictors.own_python import OwnSource
from Modelling.predictors.trial import Opening, try_out
from Pipeline.observability.metrics import Sources
from Pipeline.observability.waiting import SLOW_MODEL_SECONDS, Reason
from Pipeline.script import options as opt
from Pipeline.script.life_cycle import run_script
from Pipeline.script.script import Script
from Pipeline.serving.batch_size import BatchSize
from Pipeline.serving.in_flight import InFlight
from Pipeline.serving.live_model import LiveModel
from Pipeline.serving.loading import told_if_slow
from Pipeline.serving.model_server import (
    PredictStep,
    StoreStep,
    TimeLimits,
    batches_of,
    is_large,
)
from Pipeline.serving.queue_place import open_result_queue, place_of_state
from Pipeline.serving.served import Served, canary, tell_if_same
from Pipeline.serving.shadow import Shadow
from Pipeline.serving.steps import in_steps
from Pipeline.serving.watchdog import Watchdog
from Pipeline.stop import Stop
from Pipeline.tally import Tally
from Queue import ResultQueue

logger = logging.getLogger("model_server_sub")

# What only image models in files are asked.
OF_PICTURES = ("top", "input_range", "image_seconds", "max_model_bytes")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = opt.script_parser("model_server_sub", __doc__ or "")
    opt.add_consumer_options(parser)
    opt.add_subscription_option(parser)
    opt.add_queue_option(parser)
    parser.add_argument(
        "--checkpoint",
        type=path_name,
        metavar="FILE",
        help=".h5 or .keras of Keras, .onnx, .tflite, or a SavedModel folder; "
        "default: the shipped one",
    )
    parser.add_argument(
        "--predictor",
        metavar="package.module:Class",
        help="Python of your own that answers; it is given --checkpoint, if there is one",
    )
    parser.add_argument(
        "--threads", type=threads_option, metavar="N", help="of the model; default: all cores"
    )
    parser.add_argument(
        "--top",
        type=count_or_none,
        metavar="K",
        default=0,
        help="add the K most probable classes with their probabilities to each result; 0: none",
    )
    parser.add_argument(
        "--canary",
        type=canary,
        metavar="FILE:SHARE",
        help="a checkpoint that answers a share (0 to 1) of the images, chosen by their ids",
    )
    parser.add_argument(
        "--shadow",
        type=path_name,
        metavar="FILE",
        help="a checkpoint that predicts as far as it comes, and answers nobody: "
        "see `python -m DB compare`",
    )
    parser.add_argument(
        "--min-confidence",
        type=probability,
        metavar="P",
        default=0.0,
        help='mark results with less confidence as "unsure": true; 0: none',
    )
    parser.add_argument(
        "--image-seconds",
        type=positive,
        metavar="SECONDS",
        default=IMAGE_SECONDS,
        help="CPU time that decoding one image may take",
    )
    parser.add_argument(
        "--predict-timeout",
        type=positive,
        metavar="SECONDS",
        help="end with 1 if the model takes longer for a batch; default: models may be slow",
    )
    add_max_model_bytes(parser)
    parser.add_argument(
        "--input-range",
        type=input_range_option,
        metavar="LOW,HIGH",
        help="what black and white are for the model; default: as its side file says or it shows",
    )
    return parser


def main(script: Script) -> None:
    """Receive, predict, store durably, ack, overlapping; until told to stop."""
    options, topic = script.options, script.topics.images
    tell_unused(options)
    with (
        DecodingPool(image_seconds=options.image_seconds, give_up=_late(script.stop)) as decoders,
        Watchdog(script.stop) as watchdog,
        _live(script, source_of(options, options.checkpoint, decoders), watchdog) as served,
        _canary(script, decoders, watchdog) as second,
        Served(served, second, options.canary.share if second else 0.0) as models,
        open_result_queue(script) as queue,
        contextlib.closing(open_journal(script, queue)) as in_flight,
        script.broker(*topics_of(script)) as broker,
        _shadow(script, broker, served, watchdog) as shadow,
        # Last of all: from then on messages may wait for this server.
        script.subscribe(broker, topic) as subscription,
    ):
        served.on_signal()
        limits = TimeLimits(script.delivery.max_lease_seconds, options.predict_timeout)
        size = BatchSize(options.batch_size)
        predict = size.measuring(
            PredictStep(script, models, in_flight, broker.name, watchdog, limits).predict
        )
        store = StoreStep(script, subscription, queue, shadow).store
        sources = Sources(broker, subscription, queue=options.queue, models=models, shadow=shadow)
        received = script.receive(subscription, lambda: size.current)
        batches = itertools.chain.from_iterable(
            batches_of(messages, in_flight.suspicion) for messages in received
        )
        with script.at_work(sources, last_line):
            logger.info("ready: %s, from %s", models.version, subscription.subscription_id)
            script.work.do(lambda: in_steps(batches, predict, store, is_large, script.stop))


def tell_unused(options: argparse.Namespace) -> None:
    """Say which options are for nothing, where Python of one's own answers."""
    if options.predictor is None:
        return
    defaults = parser()
    given = [
        f"--{name.replace('_', '-')}"
        for name in OF_PICTURES
        if getattr(options, name) != defaults.get_default(name)
    ]
    if given:
        logger.warning("%s: of no effect with --predictor", ", ".join(given))


def topics_of(script: Script) -> list[str]:
    """Name the topics that must be there: of the images, and where a shadow speaks."""
    topics = script.topics
    return [topics.images] if script.options.shadow is None else [topics.images, topics.inferences]


def open_journal(script: Script, queue: ResultQueue) -> InFlight:
    """Open the journal of what is in flight."""
    place = place_of_state(script.options, queue)
    return script.once_there_is_room(lambda: InFlight(place), Reason.QUEUE)


def source_of(
    options: argparse.Namespace, file: Path | None, decoders: DecodingPool | None
) -> PredictorSource:
    """Tell what answers: Python of one's own, or the checkpoint that the options name."""
    if options.predictor is not None:
        return OwnSource(options.predictor, file, options.threads)

    opening = Opening(options.threads, options.input_range, options.max_model_bytes)

    def load(found: Checkpoint) -> ImagePredictor:
        classifier = load_classifier(
            found,
            threads=opening.threads,
            decoders=decoders,
            input_range=opening.input_range,
            max_bytes=opening.max_bytes,
        )
        return ImagePredictor(classifier, options.top)

    return CheckpointSource(
        file or DEFAULT_CHECKPOINT,
        load,
        try_out=lambda checkpoint: try_out(checkpoint, opening),
        max_bytes=opening.max_bytes,
    )


def _loading(script: Script, source: PredictorSource) -> contextlib.AbstractContextManager[None]:
    """Let a model that takes long to load at the start be seen to be waited for.

    And, should a damaged one crash its runtime here, let the last line tell which one it was.
    """
    logger.info("opening %s", source.name)
    return script.waiting.on(Reason.MODEL, f"{source.name} is being loaded", SLOW_MODEL_SECONDS)


def _live(script: Script, source: PredictorSource, watchdog: Watchdog) -> LiveModel:
    """Load a model that answers."""
    with _loading(script, source):
        return LiveModel(source, script.stop, watchdog)


def _canary(
    script: Script, decoders: DecodingPool, watchdog: Watchdog
) -> contextlib.AbstractContextManager[LiveModel | None]:
    """Make the model that answers a share, if one is asked for; it is reloaded as the other is."""
    if script.options.canary is None:
        return contextlib.nullcontext()
    source = source_of(script.options, script.options.canary.file, decoders)
    return _live(script, source, watchdog)


def _shadow(
    script: Script, broker: BrokerInterface, served: LiveModel, watchdog: Watchdog
) -> contextlib.AbstractContextManager[Shadow | None]:
    """Make the model that answers nobody, if one is asked for.

    It decodes by itself: the processes that decode are for what is answered.
    """
    if script.options.shadow is None:
        return contextlib.nullcontext()
    source = source_of(script.options, script.options.shadow, None)
    load = functools.partial(source.load, lambda: None)
    with _loading(script, source), told_if_slow(watchdog, source.name):
        shadow = Shadow(load, broker, script.topics.inferences, script.stop, watchdog)
    if shadow.labels != labels_of(served.current()):
        logger.warning(
            "the shadow %s has other labels than %s: their answers will not agree; see their side "
            "files",
            shadow.version,
            served.version,
        )
    tell_if_same("shadow", shadow.version, served.version)
    return shadow


def _late(stop: Stop) -> Callable[[], bool]:
    """Tell when decoding leaves too little of the grace for storing what was predicted."""
    return lambda: stop.requested and stop.grace_left < stop.grace_seconds / 2


def last_line(tally: Tally) -> str:
    """Say what was done."""
    return (
        f"model_server_sub: {counted(tally.done, 'image')} classified{tally.rate}, "
        f"{tally.dead_lettered} dead-lettered"
    )


if __name__ == "__main__":
    run_script("model_server_sub", parser(), main)
