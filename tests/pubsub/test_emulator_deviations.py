"""What the emulator answers where the real service answers otherwise, asserted as it is.

docs/pubsub.md lists these beside what the service does. A test that fails here means that the
emulator has changed, and that something of ours may be simpler now. They test Google's program and
not this one, and so run with `make soak`.
"""

from __future__ import annotations

import contextlib
import queue
import statistics
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from google.api_core.exceptions import DeadlineExceeded, InvalidArgument

from tests.brokers.harness import BrokerUnderTest
from tests.brokers.pubsub_emulator import PubSubEmulator
from tests.pubsub.bare_client import BareClient

pytestmark = [
    pytest.mark.soak,
    pytest.mark.usefixtures("under_test"),
    pytest.mark.parametrize("running_broker", ["pubsub"], indirect=True),
]

# How often the emulator looks for messages on behalf of those who wait.
TICK_SECONDS = 0.05
# What depends on who is first is tried so often before it counts as different.
ATTEMPTS = 4

PULL_AND_HANG = """
import sys
from tests.pubsub.bare_client import BareClient
client = BareClient({"PUBSUB_EMULATOR_HOST": sys.argv[1], "GOOGLE_CLOUD_PROJECT": sys.argv[2]})
client.pull(sys.argv[3], timeout=5)  # connects
print("pulling", flush=True)
client.pull(sys.argv[3], timeout=60)
"""


def data(count: int, key: str = "") -> list[dict[str, object]]:
    return [{"data": str(number).encode(), "ordering_key": key} for number in range(count)]


def numbers(received: list[object]) -> list[int]:
    return [int(each.message.data) for each in received]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "message",
    [
        {"attributes": {"a": "v" * 1025}},
        {"attributes": {"n" * 257: "v"}},
        {"attributes": {f"n{number}": "v" for number in range(101)}},
        {"attributes": {"googletest": "v"}},
        {"data": b"d", "ordering_key": "k" * 1025},
    ],
    ids=["long value", "long name", "101 attributes", "goog attribute", "long key"],
)
def test_the_emulator_takes_messages_that_the_service_refuses(
    under_test: BrokerUnderTest, bare: BareClient, message: dict[str, object]
) -> None:
    name = under_test.unused_name()
    bare.create(name)
    bare.publish(name, message)
    assert len(bare.pull_until_something_comes(name)) == 1


def test_the_emulator_knows_every_project(under_test: BrokerUnderTest) -> None:
    client = BareClient({**under_test.environment, "GOOGLE_CLOUD_PROJECT": "nobody-ever-made-it"})
    assert list(client.publisher.list_topics(project="projects/nobody-ever-made-it")) == []
    client.close()


def test_the_emulator_refuses_subscriptions_that_keep_messages_for_more_than_7_days(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    name = under_test.unused_name()
    with pytest.raises(InvalidArgument):
        bare.create(name, message_retention_duration=timedelta(days=31))


def test_the_emulator_gives_a_pull_100_messages_at_most(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    name = under_test.unused_name()
    bare.create(name)
    bare.publish(name, *data(300))
    assert len(bare.pull(name, max_messages=1000)) == 100


def test_the_emulator_answers_an_empty_pull_a_second_before_its_time_is_over(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    name = under_test.unused_name()
    bare.create(name)
    for _ in range(ATTEMPTS):
        started = time.monotonic()
        with contextlib.suppress(DeadlineExceeded):  # a busy machine may need that second
            assert bare.pull(name, timeout=3.0) == []
            assert time.monotonic() - started > 1.5
            return
    pytest.fail("each pull ended with DEADLINE_EXCEEDED")


def test_the_emulator_wakes_a_waiting_pull_within_50_ms_only(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    name = under_test.unused_name()
    bare.create(name)
    came: queue.Queue[float] = queue.Queue()

    def pull() -> None:
        received = bare.pull_until_something_comes(name)
        came.put(time.monotonic())
        bare.ack(name, received)

    def seconds(pull_waits: bool) -> float:
        """Return the time from a publication to its arrival by a pull."""
        puller = threading.Thread(target=pull)
        if pull_waits:
            puller.start()
            puller.join(0.2)
        published = time.monotonic()
        bare.publish(name, *data(1))
        if not pull_waits:
            puller.start()
        puller.join()
        return came.get() - published

    for _ in range(ATTEMPTS):  # a busy machine makes both slow
        waiting, asking = ([seconds(waits) for _ in range(9)] for waits in (True, False))
        if statistics.median(waiting) > statistics.median(asking) + TICK_SECONDS / 5:
            return
    pytest.fail("a pull that waits is answered as soon as one that begins")


def test_the_emulator_goes_on_handing_messages_to_pulls_that_were_killed_or_cancelled(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    for attempt in range(ATTEMPTS):
        killed, cancelled = under_test.unused_name(), under_test.unused_name()
        for name in (killed, cancelled):
            bare.create(name, ack_deadline_seconds=10)
        begin_and_end_pulls(under_test, bare, killed, cancelled, TICK_SECONDS * 10 * 2**attempt)
        published = time.monotonic()
        bare.publish(killed, *data(1))
        bare.publish(cancelled, *data(1))
        time.sleep(TICK_SECONDS * 5)  # a pull that comes first would take it
        # On a busy machine the pulls may not have begun, or the leases be over by now.
        if not any(bare.pull(name, timeout=3.0) for name in (killed, cancelled)):
            break
    else:
        pytest.fail("living pulls got what should have gone to dead ones")
    for name in (killed, cancelled):
        assert numbers(bare.pull_until_something_comes(name)) == [0]
        assert time.monotonic() - published > 8  # the lease that nobody could end


def begin_and_end_pulls(
    under_test: BrokerUnderTest, bare: BareClient, killed: str, cancelled: str, seconds: float
) -> None:
    """Pull from one subscription in a process that is killed, and from another until cancelled.

    Args:
        under_test: the broker.
        bare: cancels.
        killed: a subscription.
        cancelled: another.
        seconds: how long the pulls have to reach the emulator.
    """
    host, project = under_test.environment.values()
    process = subprocess.Popen(
        [sys.executable, "-c", PULL_AND_HANG, host, project, killed], stdout=subprocess.PIPE
    )
    call = bare.begin_pull(cancelled)
    assert process.stdout is not None
    assert process.stdout.readline() == b"pulling\n"
    time.sleep(seconds)
    process.kill()
    process.communicate()
    call.cancel()


def test_the_emulator_gives_a_pull_no_more_of_a_key_before_all_of_it_is_acked(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    name = under_test.unused_name()
    bare.create(name, enable_message_ordering=True)
    bare.publish(name, *data(1, "k"))
    first = bare.pull_until_something_comes(name)
    bare.publish(name, *data(2, "k"))

    assert bare.pull(name, timeout=1.5) == []
    bare.ack(name, first)
    assert numbers(bare.pull_until_something_comes(name)) == [0, 1]


def test_the_emulator_replays_later_messages_of_a_key_that_were_acked(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """So does the service; but the emulator waits for the leases of the acked ones to end."""
    name = under_test.unused_name()
    bare.create(name, enable_message_ordering=True, ack_deadline_seconds=10)
    bare.publish(name, *data(3, "k"))
    first, *later = bare.pull_until_something_comes(name)
    bare.ack(name, later)
    given_back = time.monotonic()
    bare.lease(name, [first], 0)

    assert sorted(numbers(bare.pull_until_something_comes(name))) == [0, 1, 2]
    assert time.monotonic() - given_back > 8


def test_the_emulator_forgets_who_holds_a_key_when_the_stream_ends(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """The message is leased all the same; yet another consumer gets the next one of its key."""
    name = under_test.unused_name()
    bare.create(name, enable_message_ordering=True)
    bare.publish(name, *data(1, "k"))
    ends, brought = (threading.Event(), threading.Event()), (queue.Queue(), queue.Queue())
    first = bare.stream(name, ends[0], brought[0])
    assert numbers([brought[0].get(timeout=10)]) == [0]
    ends[0].set()
    first.join()

    second = bare.stream(name, ends[1], brought[1])
    bare.publish(name, *data(2, "k")[1:])

    assert numbers([brought[1].get(timeout=10)]) == [1]
    ends[1].set()
    second.join()


def test_the_emulator_sends_a_stream_100_messages_each_50_ms(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    name = under_test.unused_name()
    bare.create(name)
    bare.publish(name, *data(1000))
    end, brought = threading.Event(), queue.Queue()
    started = time.monotonic()
    stream = bare.stream(name, end, brought)
    for _ in range(1000):
        brought.get(timeout=10)
    assert time.monotonic() - started > 0.4
    end.set()
    stream.join()


def test_the_emulator_loses_everything_when_it_stops() -> None:
    emulator = PubSubEmulator()
    with emulator:
        client = BareClient(emulator.environment)
        client.create("some-topic")
        client.close()
    with emulator:
        client = BareClient(emulator.environment)
        assert list(client.publisher.list_topics(project="projects/emulated-project")) == []
        client.close()


def test_the_emulator_takes_a_late_ack_while_the_message_is_with_nobody(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    """It says nothing of an ack that comes too late, as the service without exactly-once."""
    name = under_test.unused_name()
    bare.create(name)
    bare.publish(name, *data(1))
    first = bare.pull_until_something_comes(name)
    bare.lease(name, first, 0)
    second = bare.pull_until_something_comes(name)

    bare.ack(name, first)  # the id of a delivery that is over: no error, and no effect
    bare.lease(name, second, 0)

    assert numbers(bare.pull_until_something_comes(name)) == [0]
