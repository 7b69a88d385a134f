"""Every image that app_1 reported as published ends exactly once in the DB."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from Modelling.data_preparation import bundled_test_images, encode_npy
from Modelling.predict_cnn import DEFAULT_CHECKPOINT, load_classifier
from tests.operations.scripts import scrape
from tests.pipeline.runner import Pipeline, wait_until
from tests.servers import free_port

ALL_IMAGES = 10_000


def labels_of_the_engine() -> list[str]:
    images, _ = bundled_test_images()
    classifier = load_classifier(DEFAULT_CHECKPOINT)
    prepared, errors = classifier.prepare_batch([encode_npy(image) for image in images])
    assert not any(errors)
    return classifier.predict(prepared).labels


@pytest.mark.timeout(400)
def test_ten_thousand_images_arrive_once_though_each_consumer_is_killed_in_mid_run(
    pipeline_on_each_broker: Pipeline,
) -> None:
    pipeline = pipeline_on_each_broker
    sub, pub, app_2 = pipeline.sub().ready(), pipeline.pub().ready(), pipeline.app_2().ready()
    app_1 = pipeline.app_1()
    pipeline.wait_for_rows(500)
    sub.kill()
    sub = pipeline.sub()
    pipeline.wait_for_rows(2000)
    pub.kill()
    pub = pipeline.pub()
    pipeline.wait_for_rows(4000)
    app_2.kill()
    app_2 = pipeline.app_2()

    pipeline.wait_for_rows(ALL_IMAGES)
    assert f"{ALL_IMAGES:,} of {ALL_IMAGES:,} images confirmed" in app_1.end()
    for script in (sub, pub, app_2):
        script.terminate()
    pipeline.assert_each_stored_once()
    predicted = {row["source"]: row["label"] for row in pipeline.rows()}
    engine = labels_of_the_engine()
    assert [predicted[f"mnist-test/{i}"] for i in range(ALL_IMAGES)] == engine


def test_images_published_before_any_consumer_ever_started_arrive(pipeline: Pipeline) -> None:
    assert "1,000 of 1,000 images confirmed" in pipeline.app_1("--count", 1000).end()
    app_2 = pipeline.app_2().ready()
    pub = pipeline.pub().ready()
    sub = pipeline.sub().ready()
    pipeline.wait_for_rows(1000)
    for script in (sub, pub, app_2):
        script.terminate()
    pipeline.assert_each_stored_once()


def test_a_clean_stop_in_mid_run_loses_nothing(pipeline: Pipeline) -> None:
    app_1 = pipeline.app_1("--count", 100_000, "--rate", 500)
    scripts = [pipeline.sub("--batch-size", 16), pipeline.pub(), pipeline.app_2()]
    pipeline.wait_for_rows(300)
    for script in (*scripts, app_1):  # images are on their way everywhere
        script.terminate()
    assert pipeline.stored() < len(pipeline.ids()), "the stop came too late to show anything"
    scripts = [pipeline.sub(), pipeline.pub(), pipeline.app_2()]
    pipeline.wait_for_rows(len(pipeline.ids()))
    for script in scripts:
        script.ready().terminate()
    pipeline.assert_each_stored_once()


def test_two_model_servers_share_the_images(pipeline: Pipeline) -> None:
    ports = [free_port() for _ in range(2)]
    subs = [pipeline.sub("--batch-size", 16, "--metrics-port", port).ready() for port in ports]
    pipeline.pub()
    pipeline.app_2()
    app_1 = pipeline.app_1("--count", 1_000_000, "--rate", 200)
    # Until both have had some: either may be held up for a while on a busy machine.
    wait_until(
        lambda: all(scrape(port).values.get("serving_images_predicted") for port in ports),
        "both have done some",
    )
    app_1.terminate()
    pipeline.wait_for_rows(len(pipeline.ids()))
    shares = [int(sub.terminate().split()[1].replace(",", "")) for sub in subs]
    assert min(shares) > 0
    pipeline.assert_each_stored_once()


def test_two_subscriptions_each_get_every_result(pipeline: Pipeline) -> None:
    other_db = pipeline.folder / "audit.txt"
    audit = pipeline.broker.unused_name("audit")
    pipeline.start("app_2", "--db", other_db, "--subscription", audit).ready()
    pipeline.app_2().ready()
    pipeline.sub()
    pipeline.pub()
    pipeline.app_1("--count", 500).end()
    pipeline.wait_for_rows(500)
    pipeline.wait_for_rows(500, other_db)
    pipeline.assert_each_stored_once()
    pipeline.assert_each_stored_once(other_db)


def test_a_second_app_2_on_the_same_db_stands_by_and_takes_over(pipeline: Pipeline) -> None:
    first = pipeline.app_2().ready()
    second = pipeline.app_2().says(f"held by process {first.process.pid}")
    assert "ready: " not in second.output
    pipeline.sub()
    pipeline.pub()
    app_1 = pipeline.app_1("--count", 1500, "--rate", 500)
    pipeline.wait_for_rows(300)
    first.kill()
    second.ready()
    app_1.end()
    pipeline.wait_for_rows(1500)
    pipeline.assert_each_stored_once()


def test_a_second_publisher_on_the_same_queue_stands_by_and_takes_over(pipeline: Pipeline) -> None:
    first = pipeline.pub().ready()
    second = pipeline.pub().says(f"held by process {first.process.pid}")
    assert "ready: " not in second.output
    pipeline.sub()
    pipeline.app_2()
    app_1 = pipeline.app_1("--count", 1500, "--rate", 500)
    pipeline.wait_for_rows(100)
    first.kill()
    second.ready()
    app_1.end()
    pipeline.wait_for_rows(1500)
    assert not second.terminate().startswith("model_server_pub: 0 results")
    pipeline.assert_each_stored_once()


def test_a_consumer_that_is_idle_for_long_enough_ends_with_0(pipeline: Pipeline) -> None:
    pipeline.app_1("--count", 100).end()
    sub = pipeline.sub("--exit-when-idle", 1)
    assert sub.end().startswith("model_server_sub: 100 images classified")
    assert pipeline.pub("--exit-when-idle", 1).end().startswith("model_server_pub: 100 results")
    assert pipeline.app_2("--exit-when-idle", 1).end().startswith("app_2: 100 results stored")


def test_a_consumer_that_stands_by_can_be_stopped(pipeline: Pipeline) -> None:
    first = pipeline.app_2().ready()
    second = pipeline.app_2().says(f"held by process {first.process.pid}")
    second.terminate()


def test_a_count_beyond_the_input_starts_over_with_new_ids(pipeline: Pipeline) -> None:
    pipeline.app_1("--count", 10_050).end()
    assert len(set(pipeline.ids())) == 10_050


def test_app_1_keeps_the_rate(pipeline: Pipeline) -> None:
    started = time.monotonic()
    app_1 = pipeline.app_1("--count", 40, "--rate", 20)
    app_1.end()
    assert time.monotonic() - started >= 39 / 20
    for script in (pipeline.sub(), pipeline.pub(), pipeline.app_2()):
        script.ready()
    pipeline.wait_for_rows(40)
    # Each has the time at which it was meant to go, however busy the machine.
    times = sorted(milliseconds(row["published_at"]) for row in pipeline.rows())
    assert [round(time - times[1]) for time in times[1:]] == pytest.approx(
        [i * 50 for i in range(39)], abs=1
    )


def milliseconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() * 1e3
