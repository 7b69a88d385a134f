"""Bodies that the service takes from others, and from us as a letter no more."""

from __future__ import annotations

import hashlib

import pytest

from MessageBroker.conformance.stories import read_dead_letters, receive, receive_one
from tests.brokers.harness import BrokerUnderTest
from tests.pubsub.bare_client import BareClient

# Pub/Sub takes 10,000,000 bytes a request: this fits, and with a letter's attributes does not.
BODY = b"x" * 9_999_700
COUNT = 8  # more than max_outstanding_bytes lets through at once


@pytest.mark.timeout(120)
@pytest.mark.parametrize("running_broker", ["pubsub"], indirect=True)
def test_a_body_too_large_to_be_dead_lettered_leaves_a_letter_that_names_the_seek(
    under_test: BrokerUnderTest, bare: BareClient
) -> None:
    broker, topic = under_test.connect_with_topic()
    for _ in range(COUNT):
        bare.publisher.publish(topic=bare.topic(topic), messages=[{"data": BODY}])
    with broker.subscribe(topic) as subscription:
        for _ in range(COUNT):
            bad = receive_one(subscription)
            assert subscription.dead_letter([bad], "no image", "e" * 1000) == 1
        broker.publish(topic, b"good").result()
        (good,) = receive(subscription, 1)
        subscription.ack([good])

    for letter in read_dead_letters(broker, topic, COUNT):
        attributes = letter.attributes
        assert (letter.data, attributes["dead_letter_body"]) == (b"", "absent")
        assert attributes["dead_letter_bytes"] == str(len(BODY))
        assert attributes["dead_letter_sha256"] == hashlib.sha256(BODY).hexdigest()
        assert attributes["dead_letter_place"] == f"{topic}/{attributes['dead_letter_message_id']}"
        assert (
            f"gcloud pubsub subscriptions seek {topic}-sub --time="
            in (attributes["dead_letter_error"])
        )
