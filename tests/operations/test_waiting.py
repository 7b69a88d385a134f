"""Whatever waits says so: in the metrics, in `/readyz`, in the watch; and idle is not waiting."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from MessageBroker import BrokerUnavailableError, OutgoingMessage
from MessageBroker.configuration import read_broker_config
from Modelling.data_preparation import bundled_test_images, encode_npy
from Pipeline.observability.probe import Stall
from Pipeline.observability.stages import DONE, STALL_SECONDS, Stage, problems
from Pipeline.observability.waiting import STUCK_SECONDS, Reason, Waiting
from Pipeline.script.room import once_there_is_room
from Pipeline.script.script import Script
from Pipeline.script.start_up import Server, once_it_answers
from Pipeline.stop import Stop
from Pipeline.tally import Tally
from tests.brokers.harness import BrokerUnderTest
from tests.operations.scripts import get, scrape, wait_until_ready
from tests.pipeline.runner import ROOT, Clock, Pipeline, dead_letters, wait_until
from tests.queue.of_dicts import FileQueue
from tests.servers import free_port
from tests.small_disk import fill, mounted

# The queue reserves a megabyte: results that go beyond it find the disk full.
DISK_BYTES, IMAGES = 8_000_000, 4000

SCHEMES = {"db": "postgresql", "queue": "redis"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", DISK_BYTES) as folder:
        yield folder


def watch_once(*ports: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "Pipeline.watch", "--interval", "0.1", "--once", "--json"]
    return subprocess.run([*command, *map(str, ports)], cwd=ROOT, capture_output=True, text=True)


def test_a_full_disk_under_queue_and_db_is_told_and_waited_out(
    pipeline: Pipeline, disk: Path
) -> None:
    pipeline.queue, pipeline.db = disk / "log.txt", disk / "db.txt"
    ports = {"queue": free_port(), "db": free_port()}
    scripts = [
        pipeline.sub("--metrics-port", ports["queue"]).ready(),
        pipeline.app_2("--metrics-port", ports["db"]).ready(),
    ]
    for port in ports.values():
        wait_until_ready(port)
    ballast = fill(disk)
    broker = pipeline.connect()
    results = [OutgoingMessage(b'{"id":"%d","label":"7"}' % i) for i in range(1000)]
    broker.publish_batch(pipeline.inferences, results)
    pipeline.app_1("--count", IMAGES).end()

    for reason, port in ports.items():
        wait_until(lambda port=port: "waiting for" in get(port, "/readyz")[1], f"{port} says so")
        code, said = get(port, "/readyz")
        assert code == 503
        assert "No space left on device" in said
        assert scrape(port).values[f'serving_waiting{{reason="{reason}"}}'] == 1
    told = watch_once(*ports.values())
    assert told.returncode == 1
    for script in ("model_server_sub", "app_2"):
        assert f"{script} (localhost:" in told.stdout
    assert told.stdout.count("No space left on device") >= 2

    ballast.unlink()
    pipeline.wait_for_rows(1000)
    for reason, port in ports.items():
        wait_until_ready(port)
        assert scrape(port).values[f'serving_waiting{{reason="{reason}"}}'] == 0
    for script in scripts:
        script.terminate()
        assert script.output.count("; waiting") == 1
        assert script.output.count("it works again") == 1
        assert " ERROR " not in script.output
    # What was torn off when the disk was full is no damage: nobody was told of it.
    assert pipeline.pub("--exit-when-idle", 1).end().endswith(" 0 dead-lettered")


def test_a_dead_letter_topic_that_is_gone_is_told_and_no_idleness(pipeline: Pipeline) -> None:
    """It cannot come back by itself: the script ends with 1, nothing is lost, the next goes on."""
    sub = pipeline.sub("--exit-when-idle", 2).ready()
    broker = pipeline.connect()
    broker.delete_topic(f"{pipeline.images}-dead-letter")
    broker.publish(pipeline.images, b"no image").result()

    sub.end(1)
    assert f"there is no topic '{pipeline.images}-dead-letter'" in sub.output

    assert pipeline.sub("--exit-when-idle", 2).end().endswith("1 dead-lettered")


def test_a_disk_that_is_full_at_the_start_is_waited_out_too(pipeline: Pipeline, disk: Path) -> None:
    pipeline.queue, pipeline.db = disk / "Queue" / "log.txt", disk / "DB" / "db.txt"
    pipeline.app_1("--count", 20).end()
    ballast = fill(disk)
    scripts = [pipeline.sub(), pipeline.pub(), pipeline.app_2()]
    for script in scripts:
        script.says("; waiting")
    folder = {"LOCAL_BROKER_PATH": str(disk / "broker")}
    elsewhere = pipeline.start("app_1", "--count", 3, **folder).says("; waiting")
    assert [script.process.poll() for script in (*scripts, elsewhere)] == [None] * 4
    ballast.unlink()
    elsewhere.end()
    pipeline.wait_for_rows(20)
    for script in scripts:
        script.terminate()


@pytest.mark.parametrize(
    ("name", "option", "reason"),
    [("app_2", "--db", "db"), ("model_server_pub", "--queue", "queue")],
)
def test_a_server_that_is_away_at_the_start_is_seen_to_be_waited_for(
    pipeline: Pipeline, name: str, option: str, reason: str
) -> None:
    port, nobody = free_port(), f"{SCHEMES[reason]}://127.0.0.1:{free_port()}"
    script = pipeline.start(name, option, nobody, "--metrics-port", port).says("waiting for it")
    waits = f'serving_waiting{{reason="{reason}"}}'
    wait_until(lambda: scrape(port).values.get(waits) == 1, "it says so")
    script.terminate()


# As Kafka, whose brokers answer a ping while the controller, which makes topics, is away.
CONTROLLER_IS_AWAY = """
from MessageBroker.core.broker import BrokerCore
from MessageBroker.errors import BrokerUnavailableError
create, tries = BrokerCore.create_topic, []
def create_at_last(self, topic, **named):
    tries.append(topic)
    if len(tries) < 3:
        raise BrokerUnavailableError("the controller is away")
    return create(self, topic, **named)
BrokerCore.create_topic = create_at_last
"""


def test_a_topic_that_cannot_be_had_at_the_start_is_waited_for_as_its_broker_is(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CONTROLLER_IS_AWAY)
    path = f"{tmp_path}:{ROOT}"
    app_2 = pipeline.start("app_2", "--db", pipeline.db, PYTHONPATH=path).ready()
    app_2.terminate()
    assert app_2.output.count("the controller is away; waiting for it") == 1


# The rule is the same as with 10 seconds.
IMPATIENT = """
from MessageBroker.core import letters
letters.PATIENCE_SECONDS = 0.5
"""


def test_letters_that_wait_are_told_and_end_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
    port = free_port()
    sub = pipeline.sub("--metrics-port", port, PYTHONPATH=f"{tmp_path}:{ROOT}").ready()
    reason = 'serving_waiting{reason="dead_letter"}'
    broker = pipeline.connect()
    [topic] = Path(pipeline.broker.environment["LOCAL_BROKER_PATH"]).glob(
        f"{pipeline.images}-dead-letter.*.sqlite"
    )
    with contextlib.closing(sqlite3.connect(topic, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN EXCLUSIVE")  # away, alone
        broker.publish(pipeline.images, b"no image").result()
        wait_until(lambda: scrape(port).values.get(reason) == 1, "a letter waits")
        good = encode_npy(bundled_test_images()[0][0])
        broker.publish_batch(pipeline.images, [OutgoingMessage(good)] * 10)
        wait_until(lambda: pipeline.queue.read_bytes().count(b"\n") == 10, "the others flow on")
        assert scrape(port).values[reason] == 1
        assert sub.process.poll() is None
    wait_until(lambda: scrape(port).values[reason] == 0, "it was sent")
    sub.terminate()
    assert len(dead_letters(broker, pipeline.images, 1)) == 1


def test_an_idle_publisher_says_that_its_broker_is_away(
    pipeline: Pipeline, embedded_broker: BrokerUnderTest
) -> None:
    port = free_port()
    pipeline.pub("--metrics-port", port).ready()
    wait_until_ready(port)
    reason = 'serving_waiting{reason="broker"}'
    assert scrape(port).values[reason] == 0
    with embedded_broker.outage():
        wait_until(lambda: scrape(port).values[reason] == 1, "it is told")
    wait_until(lambda: scrape(port).values[reason] == 0, "it is back")


def test_the_clock_of_idleness_stands_while_anything_is_unacked(
    embedded_broker: BrokerUnderTest,
) -> None:
    """With its limit of un-acked messages reached, nothing comes though more is there."""
    broker, topic = embedded_broker.connect_with_topic()
    most = read_broker_config(embedded_broker.config_dir).delivery.max_outstanding_messages
    broker.publish_batch(topic, [OutgoingMessage(b"x")] * (most + 10))
    script = Script(Namespace(exit_when_idle=0.5, batch_size=most))
    received = 0
    with broker.subscribe(topic) as subscription:
        for messages in script.receive(subscription):
            received += len(messages)
            # As a server's steps do it: behind the back of the loop that receives.
            threading.Timer(1.5, subscription.ack, [messages]).start()
    assert received == most + 10
    embedded_broker.end_of_test()


def test_what_lasts_is_told_after_a_second_and_is_wrong_after_ten() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    waiting.begin(Reason.QUEUE_FULL, "the queue is full")
    assert waiting.reasons() == {}
    clock.now += 1.0
    assert waiting.reasons() == {Reason.QUEUE_FULL: True}
    assert waiting.stuck() is None
    clock.now += STUCK_SECONDS
    waiting.begin(Reason.QUEUE_FULL, "the queue is still full")
    assert waiting.stuck() == "waiting for 11 s: the queue is still full"
    waiting.end(Reason.QUEUE_FULL)
    assert waiting.reasons() == {Reason.QUEUE_FULL: False}
    assert waiting.stuck() is None
    with waiting.on(Reason.MODEL, "the model has not answered", usual=60.0):
        clock.now += 59.0
        assert waiting.stuck() is None
        assert Reason.MODEL not in waiting.reasons(), "models may be slow"
        clock.now += 1.0
        assert waiting.stuck() == "waiting for 60 s: the model has not answered"
        assert waiting.reasons()[Reason.MODEL]


def test_messages_that_wait_while_nothing_is_done_stand_still() -> None:
    clock, tally = Clock(), Tally()
    stall = Stall(tally, clock)
    clock.now += 3600.0
    assert stall.seconds(0) == 0.0, "idle is not standing still"
    clock.now += 5.0
    assert stall.seconds(10) == 5.0
    tally.duplicates += 1
    assert stall.seconds(10) == 0.0


def stage(script: str, **fields: object) -> Stage:
    return Stage("localhost:1", script, "ready", ready=True, **fields)  # type: ignore[arg-type]


def test_a_stand_still_is_a_problem_unless_another_instance_works() -> None:
    stalled = stage("app_2", waiting=744, stalled_seconds=STALL_SECONDS)
    others = [stage(script) for script in DONE if script != "app_2"]
    assert problems([*others, stalled]) == ["app_2: 744 wait, and nothing was done for 30 s"]
    assert problems([*others, stalled, stage("app_2", waiting=744, stalled_seconds=0.0)]) == []
    assert problems([*others, stage("app_2", waiting=0, stalled_seconds=0.0)]) == []


def test_a_standby_beside_one_that_works_is_no_problem_though_it_does_nothing() -> None:
    works = stage("model_server_pub", waiting=9, stalled_seconds=0.0)
    waits = Stage(
        "localhost:2",
        "model_server_pub",
        "standing by",
        waiting=9,
        stalled_seconds=99.0,
        standby=True,
    )
    others = [stage(script) for script in DONE if script != "model_server_pub"]
    assert problems([*others, works, waits]) == []
    alone = problems([*others, waits])
    assert "model_server_pub (localhost:2): standing by" in alone
    assert "model_server_pub: 9 wait, and nothing was done for 99 s" in alone


def test_a_publisher_waits_until_a_disk_has_room_for_the_quarantine(
    pipeline: Pipeline, disk: Path
) -> None:
    pipeline.queue = disk / "log.txt"
    with FileQueue(pipeline.queue) as queue:
        queue.put([{"id": str(i), "label": "7", "pad": "x" * 5000} for i in range(3)])
    damaged = pipeline.queue.read_bytes().replace(b'"label":"7"', b'"label":"8"', 1)
    pipeline.queue.write_bytes(damaged)
    ballast = fill(disk)
    pub = pipeline.pub("--exit-when-idle", 1).says("; waiting")
    assert pub.process.poll() is None
    ballast.unlink()
    assert pub.end().startswith("model_server_pub: 2 results published")


def test_a_broker_that_is_away_is_waited_for_by_whoever_receives(
    embedded_broker: BrokerUnderTest,
) -> None:
    broker, topic = embedded_broker.connect_with_topic()
    broker.publish(topic, b"x").result()
    script = Script(Namespace(exit_when_idle=0.5, batch_size=8))
    with broker.subscribe(topic) as subscription:

        def work() -> None:
            for messages in script.receive(subscription):
                subscription.ack(messages)

        loop = threading.Thread(target=work)
        with embedded_broker.outage():
            loop.start()
            wait_until(
                lambda: script.waiting.reasons() == {Reason.BROKER: True}, "the outage is told"
            )
            assert loop.is_alive(), "an outage is no idleness"
        loop.join()
    assert script.waiting.reasons() == {Reason.BROKER: False}
    embedded_broker.end_of_test()


class ClockedStop(Stop):
    """Never asked to stop; waiting takes no time but the clock's."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, seconds: float) -> bool:
        self._clock.now += seconds
        return False


def test_a_disk_that_is_full_while_a_broker_is_opened_counts_from_the_first_try() -> None:
    clock = Clock()
    stop, waiting = ClockedStop(clock), Waiting(clock)
    told: list[str | None] = []

    def full(_seconds_left: float) -> str:
        told.append(waiting.stuck())
        if len(told) > STUCK_SECONDS + 1:
            return "open"
        raise BrokerUnavailableError("full") from OSError(errno.ENOSPC, "No space left")

    server = Server(BrokerUnavailableError, Reason.BROKER, {})
    opened = once_there_is_room(
        lambda: once_it_answers(full, server, 10.0, stop, waiting), Reason.BROKER, stop, waiting
    )
    assert opened == "open"
    assert told[-1] == "waiting for 11 s: full"
    assert waiting.stuck() is None


def test_a_full_disk_under_the_ids_is_told_and_no_id_is_missing_or_torn(
    pipeline: Pipeline, disk: Path
) -> None:
    pipeline.ids_file = disk / "ids.txt"
    pipeline.ids_file.write_text("torn off by a ki")
    ballast, port = fill(disk), free_port()
    app_1 = pipeline.app_1("--count", IMAGES, "--metrics-port", port)
    app_1.says("make room, or look at the disk; waiting")
    reason = 'serving_waiting{reason="ids"}'
    wait_until(lambda: scrape(port).values.get(reason) == 1, "it is told")
    ballast.unlink()
    assert app_1.end().startswith(f"app_1: {IMAGES:,} of {IMAGES:,} images confirmed")
    torn, *ids = pipeline.ids_file.read_text().splitlines()
    assert torn == "torn off by a ki"
    assert len(set(ids)) == IMAGES
    assert {len(each) for each in ids} == {36}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: Linux has it")
def test_whoever_ends_app_1_while_ids_cannot_be_written_is_told_how_many_are_missing(
    pipeline: Pipeline,
) -> None:
    pipeline.ids_file = Path("/dev/full")
    app_1 = pipeline.app_1("--count", 7).says("; waiting")
    app_1.process.terminate()
    assert app_1.end(1).endswith("--ids /dev/full: lacks 7 ids of images that are published")
