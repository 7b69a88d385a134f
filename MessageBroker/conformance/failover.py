"""Failover between processes."""

from __future__ import annotations

import time

from MessageBroker import Subscription
from MessageBroker.conformance.harness import BrokerUnderTest
from MessageBroker.conformance.stories import (
    PATIENCE_SECONDS,
    bodies,
    in_order,
    numbered,
    numbers,
    receive,
    receive_bodies,
)

FAILOVER_SECONDS = 15.0


def test_a_killed_consumer_is_replaced_within_fifteen_seconds(under_test: BrokerUnderTest) -> None:
    """What a consumer killed by SIGKILL held goes to others within 15 s: in order, attempt one."""
    broker, topic = under_test.connect_with_topic(max_delivery_attempts=1)
    worker = under_test.worker()
    worker.call("subscribe", topic=topic)
    broker.publish_batch(topic, [*numbered(10, key="a"), *numbered(10, key="b")])
    assert len(worker.call("receive", count=20)) == 20
    survivor = broker.subscribe(topic)

    worker.kill()
    killed = time.monotonic()
    broker.publish_batch(topic, numbered(20, key="a")[10:])
    arrived = receive(survivor, 30)

    assert time.monotonic() - killed < FAILOVER_SECONDS
    # What was published for a key meanwhile is in order too; see "Order" for where it stands.
    again = [each for each in arrived if int(each.data) < 10]
    assert bodies(each for each in again if each.key == "a") == numbers(10)
    assert bodies(each for each in again if each.key == "b") == numbers(10)
    assert bodies(each for each in arrived if int(each.data) >= 10) == numbers(20)[10:]
    assert {message.delivery_attempt for message in arrived} == {1}


def test_a_stopped_consumer_is_replaced_within_fifteen_seconds(under_test: BrokerUnderTest) -> None:
    """What a consumer stopped by SIGSTOP held goes to others within 15 s; waking is harmless."""
    broker, topic = under_test.connect_with_topic()
    worker = under_test.worker()
    worker.call("subscribe", topic=topic)
    broker.publish_batch(topic, numbered(20))
    assert in_order(worker.call("receive", count=20)) == numbers(20)
    survivor = broker.subscribe(topic)

    worker.pause()
    stopped = time.monotonic()
    arrived = receive(survivor, 20)
    assert time.monotonic() - stopped < FAILOVER_SECONDS
    worker.resume()

    # It wakes with messages that are no longer its own: its acks must not settle them.
    assert worker.call("ack") == 20
    assert in_order(bodies(arrived)) == numbers(20)
    survivor.close()
    worker.call("close")
    again = receive(under_test.connect().subscribe(topic), 20)
    assert in_order(bodies(again)) == numbers(20)


def test_a_killed_publisher_loses_nothing_that_was_confirmed(under_test: BrokerUnderTest) -> None:
    """Whatever a publisher reported as confirmed before it was killed arrives."""
    broker, topic = under_test.connect_with_topic()
    worker = under_test.worker()
    worker.send("publish_for_ever", topic=topic)
    confirmed = [worker.reply() for _ in range(200)]

    worker.kill()
    confirmed += worker.replies_so_far()

    receive_bodies([broker.subscribe(topic)], [str(number) for number in confirmed])


def test_consumers_come_and_go_under_load(under_test: BrokerUnderTest) -> None:
    """While messages flow, consumers join, close and are killed: nothing is lost."""
    broker, topic = under_test.connect_with_topic()
    workers = [under_test.worker() for _ in range(2)]
    for worker in workers:
        worker.call("subscribe", topic=topic)
        worker.send("consume_for_ever")
    missing = set(numbers(3000))

    def consume(subscription: Subscription, most: int) -> None:
        messages = subscription.receive(most, 0.2)
        subscription.ack(messages)
        missing.difference_update(bodies(messages))

    steady = broker.subscribe(topic)
    for number, step in enumerate(range(0, 3000, 300)):
        broker.publish_batch(topic, numbered(3000)[step : step + 300])
        consume(steady, 100)
        if number == 3:
            workers[0].kill()
        elif number in (1, 6):
            with under_test.connect().subscribe(topic) as guest:
                consume(guest, 50)

    # The killed one may have died between an ack and its report.
    reports = workers[0].replies_so_far()
    missing.difference_update(reports[-1].get("acking", ()) if reports else ())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while missing:
        assert time.monotonic() < deadline, f"lost: {in_order(missing)[:20]}"
        consume(steady, 500)
        for report in [*reports, *workers[1].replies_so_far()]:
            missing.difference_update(report.get("acked", ()))
