"""Pictures that are sent to hurt: the model server goes on, and they are dead-lettered."""

from __future__ import annotations

import time

import numpy as np

from MessageBroker import OutgoingMessage
from Modelling.data_preparation import bundled_test_images, encode_npy
from tests.modelling import hostile
from tests.pipeline.runner import Pipeline, dead_letters

GOOD = encode_npy(bundled_test_images()[0][0])
# Seconds of CPU, under every limit that a header shows.
SLOW = hostile.jpeg_of_many_scans(6000, 80)


def test_a_picture_that_takes_too_long_costs_itself_and_no_restart(pipeline: Pipeline) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    hurting = [SLOW, hostile.lossless_jpeg(1600, 1200), hostile.jpeg_of_many_scans(2000, 3000)]
    messages = [OutgoingMessage(GOOD)] * 30
    for place, data in enumerate(hurting):
        messages.insert(7 * place, OutgoingMessage(data))
    broker.publish_batch(pipeline.images, messages)
    line = pipeline.sub("--exit-when-idle", 3, "--image-seconds", 0.5).end()
    assert line.startswith("model_server_sub: 30 images classified")
    letters = dead_letters(broker, pipeline.images, 3)
    reasons = {each.data: each.attributes["dead_letter_reason"] for each in letters}
    assert reasons == dict(zip(hurting, ["took too long"] + ["undecodable image"] * 2, strict=True))
    slow = next(each for each in letters if each.data == SLOW)
    assert "more than 0.5 s of CPU" in slow.attributes["dead_letter_error"]


def test_a_server_that_is_told_to_end_does_not_wait_for_a_flood_of_them(
    pipeline: Pipeline,
) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    broker.publish_batch(pipeline.images, [OutgoingMessage(SLOW)] * 200)
    script = pipeline.sub("--image-seconds", 600).ready()
    time.sleep(3)  # it is at work on them
    started = time.monotonic()
    script.terminate()
    assert time.monotonic() - started < 30
    assert broker.backlog(pipeline.images, f"{pipeline.images}-sub") == 200


def test_the_same_fault_is_told_once_however_different_the_pictures_are(pipeline: Pipeline) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    bad = [encode_npy(np.zeros((size, 9), np.uint8))[:-1] for size in range(9, 60)]
    broker.publish_batch(pipeline.images, [OutgoingMessage(data) for data in bad])
    script = pipeline.sub("--exit-when-idle", 2)
    script.end()
    letters = dead_letters(broker, pipeline.images, len(bad))
    errors = {each.attributes["dead_letter_error"] for each in letters}
    assert len(errors) == len(bad)  # each says how many of its bytes were missing
    assert all("truncated or damaged array" in each for each in errors)
    assert {each.attributes["dead_letter_reason"] for each in letters} == {"undecodable image"}
    assert script.output.count(" dead-lettered: ") <= 3  # a line a batch, not one a picture


def test_an_event_may_say_what_is_white_in_its_array(pipeline: Pipeline) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    dark = encode_npy((bundled_test_images()[0][0] // 8).astype(np.uint8))
    prefix = broker.cloudevents_prefix
    messages = [
        OutgoingMessage(dark, attributes={f"{prefix}white": white}) for white in ("31", "no", "-1")
    ]
    broker.publish_batch(pipeline.images, messages)
    line = pipeline.sub("--exit-when-idle", 2).end()
    assert line.startswith("model_server_sub: 1 image classified")
    letters = dead_letters(broker, pipeline.images, 2)
    assert all("no number above 0" in each.attributes["dead_letter_error"] for each in letters)
    pipeline.pub("--exit-when-idle", 1).end()
    pipeline.app_2("--exit-when-idle", 1).end()
    assert [row["label"] for row in pipeline.rows()] == ["7"]
