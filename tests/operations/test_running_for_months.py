"""Restarts, many servers and standbys under load: every image once in the DB."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from MessageBroker import OutgoingMessage
from Pipeline.events import image_event
from Pipeline.observability.stages import WatchedPipeline, problems
from Pipeline.serving.image_source import ImageSource
from tests.brokers.harness import BrokerUnderTest
from tests.operations.scripts import get, scrape, wait_until_ready
from tests.pipeline.runner import Pipeline, Script, wait_until
from tests.servers import free_port


def test_a_rolling_restart_of_everything_under_load_loses_nothing(pipeline: Pipeline) -> None:
    restart_everything(pipeline)


@pytest.mark.soak
def test_a_rolling_restart_loses_nothing_on_any_broker(pipeline_on_each_broker: Pipeline) -> None:
    restart_everything(pipeline_on_each_broker)


def restart_everything(pipeline: Pipeline) -> None:
    running = {"sub": pipeline.sub(), "pub": pipeline.pub(), "app_2": pipeline.app_2()}
    for script in running.values():
        script.ready()
    app_1 = pipeline.app_1("--count", 1_000_000, "--rate", 200)
    pipeline.wait_for_rows(100)

    for name in ("sub", "pub", "app_2"):
        # The new one first: it stands by, or shares the work, until the old one has ended.
        successor: Script = getattr(pipeline, name)()
        if name == "sub":
            successor.ready()
        else:
            successor.says("held by")
        running[name].terminate()
        running[name] = successor.ready()
        pipeline.wait_for_rows(pipeline.stored() + 50)
    app_1.terminate()  # app_1, too: what it reported as confirmed counts
    app_1 = pipeline.app_1("--count", 200)
    app_1.end()

    pipeline.wait_for_rows(len(pipeline.ids()))
    pipeline.assert_each_stored_once()


def test_servers_with_queues_of_their_own_share_the_work(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    queues = [tmp_path / f"queue_{i}" / "log.txt" for i in range(2)]
    ports = [free_port() for _ in queues]
    for queue, port in zip(queues, ports, strict=True):
        pipeline.start("model_server_sub", "--queue", queue, "--batch-size", 16).ready()
        pipeline.start("model_server_pub", "--queue", queue, "--metrics-port", port).ready()
    pipeline.app_2().ready()
    app_1 = pipeline.app_1("--count", 1_000_000, "--rate", 200)
    # Until both have had some: either may be held up for a while on a busy machine.
    wait_until(
        lambda: all(scrape(port).values.get("serving_results_published") for port in ports),
        "some results went through each queue",
    )
    app_1.terminate()
    pipeline.wait_for_rows(len(pipeline.ids()))
    pipeline.assert_each_stored_once()


def test_standbys_take_over_from_a_killed_publisher_and_a_killed_db_writer(
    pipeline: Pipeline,
) -> None:
    pipeline.sub().ready()
    pub, app_2 = pipeline.pub().ready(), pipeline.app_2().ready()
    pipeline.app_1("--count", 50).end()
    pipeline.wait_for_rows(50)
    pipeline.pub().says("held by")
    pipeline.app_2().says("held by")
    pub.kill()
    app_2.kill()
    pipeline.app_1("--count", 50).end()
    pipeline.wait_for_rows(100)
    pipeline.assert_each_stored_once()


def test_images_from_machines_with_wrong_clocks_are_stored_all_the_same(
    pipeline: Pipeline,
) -> None:
    broker = pipeline.connect()
    broker.create_topic(pipeline.images)
    image = next(iter(ImageSource([], 1)))
    moments = ["1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "?"]
    events: list[OutgoingMessage] = []
    for moment in moments:
        _, event = image_event(
            image.data,
            prefix="ce_",
            subject="clock",
            content_type=image.content_type,
            time=moment,
        )
        events.append(event)
    broker.publish_batch(pipeline.images, events)
    pipeline.sub("--metrics-port", 0).ready()
    pipeline.pub().ready()
    pipeline.app_2().ready()
    pipeline.wait_for_rows(len(moments))
    assert len({row["id"] for row in pipeline.rows()}) == len(moments)


def test_a_rolling_restart_of_the_server_needs_no_second_metrics_port(pipeline: Pipeline) -> None:
    port = free_port()
    old = pipeline.pub("--metrics-port", port).ready()
    wait_until_ready(port)
    new = pipeline.pub("--metrics-port", port).says("cannot be had").says("held by")
    stopped = threading.Thread(target=old.terminate)
    stopped.start()
    new.says(f"metrics are served on port {port} now")
    stopped.join()
    wait_until(lambda: get(port, "/readyz")[0] == 200, "the new one serves the metrics")


@pytest.mark.parametrize("name", ["pub", "app_2"])
def test_a_standby_says_so_and_worries_nobody_while_another_one_works(
    pipeline: Pipeline, name: str
) -> None:
    ports = free_port(), free_port()
    start = getattr(pipeline, name)
    first = start("--metrics-port", ports[0]).ready()
    second = start("--metrics-port", ports[1], "--exit-when-idle", 0.5).says("held by")
    wait_until(lambda: get(ports[1], "/readyz") == (503, "standing by\n"), "it stands by")
    wait_until_ready(ports[0])
    assert [scrape(port).values["serving_standby"] for port in ports] == [0, 1]
    both = WatchedPipeline([f"127.0.0.1:{port}" for port in ports], named=True).look()
    assert not [problem for problem in problems(both) if "standing by" in problem]
    alone = WatchedPipeline([f"127.0.0.1:{ports[1]}"], named=True).look()
    assert f"{second.name} (127.0.0.1:{ports[1]}): standing by" in problems(alone)

    first.kill()
    second.ready()
    second.end()


def test_the_publishers_idle_clock_stands_still_while_it_stands_by_or_the_broker_is_away(
    pipeline: Pipeline, embedded_broker: BrokerUnderTest
) -> None:
    first = pipeline.pub().ready()
    standby = pipeline.pub("--exit-when-idle", 1).says("held by")
    alone = pipeline.start(
        "model_server_pub", "--queue", pipeline.folder / "other.txt", "--exit-when-idle", 5
    ).ready()
    with embedded_broker.outage():
        time.sleep(6.0)  # that nothing happens can only be waited for
        assert standby.process.poll() is None
        assert alone.process.poll() is None
    first.terminate()
    standby.ready().end()
    alone.end()
