"""Files as they lie on a disk: names that are no text, names that are too long, files that go."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

import pytest

from DurableText.moments import timestamp
from Modelling.data_preparation import bundled_test_images, encode_npy
from Pipeline.script.script import Script
from Pipeline.serving.image_publisher import ImagePublisher
from Pipeline.serving.image_source import ImageSource, SourceImage, subject_of
from Pipeline.serving.pacing import gather
from tests.brokers.harness import BrokerUnderTest
from tests.pipeline.runner import Pipeline, wait_until

GOOD = encode_npy(bundled_test_images()[0][0])


def folder_of(path: Path, *names: bytes) -> Path:
    """A folder of images with these names; skips where the file system wants UTF-8."""
    path.mkdir()
    for name in names:
        try:
            (path / os.fsdecode(name)).write_bytes(GOOD)
        except OSError as error:
            pytest.skip(f"the file system refuses the name: {error}")
    return path


def test_a_file_whose_name_is_no_utf8_is_published_like_any_other(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    photos = folder_of(tmp_path / "photos", b"a.npy", b"b\xff.npy", b"c.npy")
    assert pipeline.app_1(photos).end().startswith("app_1: 3 of 3 images confirmed")
    broker = pipeline.connect()
    with broker.subscribe(pipeline.images) as subscription:
        messages = subscription.receive(10, 10.0)
    assert {each.attributes["ce_subject"] for each in messages} == {
        "a.npy", "b\\xff.npy", "c.npy",
    }  # fmt: skip
    assert len(pipeline.ids()) == 3


def test_a_folder_does_not_lead_into_hidden_ones(tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "photos", b"a.npy", b".b.npy")
    folder_of(photos / ".thumbnails", b"c.npy")
    folder_of(photos / "more", b"d.npy")

    assert [image.subject for image in ImageSource([photos], None)] == ["a.npy", "more/d.npy"]
    hidden = ImageSource([photos / ".thumbnails"], None)  # asked for by name
    assert [image.subject for image in hidden] == ["c.npy"]


def test_a_subject_fits_into_an_attribute_however_deep_the_folder() -> None:
    deep = "/".join(["ü" * 100] * 20) + ".png"
    assert len(subject_of(deep).encode()) <= 1024
    assert subject_of("scans/ü.png") == "scans/ü.png"


@pytest.mark.parametrize("fault", [{"subject": "\udcff"}, {"expected_label": "7" * 2000}])
def test_only_what_the_broker_has_counts_as_confirmed(
    embedded_broker: BrokerUnderTest, fault: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    broker, topic = embedded_broker.connect_with_topic()
    fields = {"subject": "good", "content_type": "application/x-npy"}
    images = [SourceImage(GOOD, **fields), SourceImage(GOOD, **{**fields, **fault})]
    publisher = ImagePublisher(Script(Namespace()), broker, topic)
    confirmed = publisher.publish([(image, timestamp()) for image in images])
    assert len(confirmed) == 1
    assert broker.backlog(topic) == 1
    assert caplog.text.count("was not published") == 1
    embedded_broker.end_of_test()


def test_a_file_that_cannot_be_read_costs_itself_and_the_summary_tells(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    photos = folder_of(tmp_path / "photos", *(b"%d.npy" % i for i in range(6)))
    app_1 = pipeline.app_1(photos, "--rate", 1)
    wait_until(lambda: pipeline.ids_file.exists() and len(pipeline.ids()) > 0, "it has begun")
    (photos / "5.npy").unlink()
    app_1.end(1)
    assert "5.npy was not published: it cannot be read: No such file" in app_1.output
    assert "app_1: 5 of 6 images confirmed" in app_1.output
    assert "1 failed" in app_1.output
    assert len(pipeline.ids()) == 5


def test_a_group_of_photographs_is_bounded_by_its_bytes() -> None:
    photo = SourceImage(bytes(6_000_000), "photo.jpg", "image/jpeg")

    assert len(gather(iter([photo] * 100), 256)) == 3
    assert len(gather(iter([SourceImage(b"", "x", "x")] * 100), 64)) == 64


def test_a_file_too_large_for_a_message_is_told_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "scan.tif").open("wb") as file:
        file.truncate(50 * 2**30)  # fifty sparse gigabytes

    (image,) = ImageSource([tmp_path], None)

    assert image.data == b""
    assert "53,687,091,200 bytes are more than" in (image.trouble or "")
