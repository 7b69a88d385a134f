"""The way to the broker: whether it answers, and what is published on its topics while it does.

What is followed is read through subscriptions of the page's own, one a topic, so that nobody else
misses anything. They begin at the end of the topic and are deleted with the page; what a killed
page left is deleted by the next one on the same host and port, which has the same names.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from MessageBroker import BrokerError, BrokerInterface, Message
from Pipeline.page.board import Board

logger = logging.getLogger(__name__)

# Between two looks whether the broker answers.
LOOK_SECONDS = 5.0
PING_SECONDS = 5.0
# After an error: at first, and at most.
SHORTEST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
# Of one call.
RECEIVE_MESSAGES = 1000
RECEIVE_SECONDS = 0.5
# What comes within this time is taken together: following costs little, whatever the rate.
GATHER_SECONDS = 0.1
# The end of the page waits so long for the subscriptions to be deleted.
DELETE_SECONDS = 5.0

Taker = Callable[[Sequence[Message]], None]


def own_subscription(port: int, topic: str) -> str:
    """Name the page's subscription of a topic."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    return f"page-{host}-{port}-{topic}"[:200]


class BrokerLink:
    """Keeps in touch with the broker, and says on the board how that goes."""

    def __init__(
        self,
        broker: BrokerInterface,
        topics: Sequence[str],
        takers: Mapping[str, Taker],
        board: Board,
        port: int,
    ) -> None:
        """Begin to connect, in threads; nobody waits for it.

        Args:
            broker: a handler that was just created.
            topics: that are made if they are missing.
            takers: what is done with the messages of each topic that is followed.
            board: where it is said whether the broker answers.
            port: of the page.
        """
        self._broker = broker
        self._topics = topics
        self._board = board
        self._closed = threading.Event()
        self._connected = threading.Event()
        self._trouble: str | None = "not connected yet"
        self._refusals: dict[str, str] = {}
        self._followed = {topic: own_subscription(port, topic) for topic in takers}
        self._tell()
        self._threads = [threading.Thread(target=self._look, name="broker", daemon=True)]
        self._threads += [
            threading.Thread(target=self._follow, args=each, name=f"follow {each[0]}", daemon=True)
            for each in takers.items()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def trouble(self) -> str | None:
        """What is wrong with the broker; None if it answers."""
        return self._trouble

    def close(self) -> None:
        """Delete the subscriptions, and follow nothing any more; to be called before the broker."""
        self._closed.set()
        self._connected.set()
        for thread in self._threads:
            thread.join(RECEIVE_SECONDS + PING_SECONDS)
        if self._trouble is None:
            # In a thread: a broker that goes away now must not keep the page from ending.
            deleting = threading.Thread(target=self._delete_subscriptions, daemon=True)
            deleting.start()
            deleting.join(DELETE_SECONDS)

    # ------------------------------------------------------------------ does it answer

    def _look(self) -> None:
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            try:
                self._broker.ping(PING_SECONDS)
                if not self._connected.is_set():
                    for topic in self._topics:
                        self._broker.create_topic(topic)
                    self._delete_subscriptions()
            except BrokerError as error:
                self._tell_trouble(str(error))
                wait, pause = pause, min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._tell_trouble(None)
                self._connected.set()
                wait, pause = LOOK_SECONDS, SHORTEST_PAUSE_SECONDS
            if self._closed.wait(wait):
                return

    def _tell_trouble(self, trouble: str | None) -> None:
        if trouble == self._trouble:
            return
        if trouble is not None:
            logger.warning("%s; the page goes on, and waits for it", trouble)
        elif self._connected.is_set():
            logger.info("the %s broker answers again", self._broker.name)
        self._trouble = trouble
        self._tell()

    def _tell(self) -> None:
        refusals = [f"{topic} is not followed: {why}" for topic, why in self._refusals.items()]
        self._board.post(
            "broker",
            {"name": self._broker.name, "trouble": self._trouble, "refusals": refusals},
        )

    # ------------------------------------------------------------------ what is published

    def _follow(self, topic: str, take: Taker) -> None:
        pause = SHORTEST_PAUSE_SECONDS
        self._connected.wait()
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                self._receive(topic, take)
            except BrokerError as error:
                self._tell_refusal(topic, str(error))
            if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pause = SHORTEST_PAUSE_SECONDS
            self._closed.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _receive(self, topic: str, take: Taker) -> None:
        with self._broker.subscribe(topic, self._followed[topic]) as subscription:
            self._tell_refusal(topic, None)
            while not self._closed.is_set():
                messages = subscription.receive(RECEIVE_MESSAGES, RECEIVE_SECONDS)
                if messages:
                    try:
                        take(messages)
                    except Exception:
                        # Whatever a message holds, it must not end the following of the others.
                        logger.exception("messages of %s were passed over", topic)
                    subscription.ack(messages)
                    self._closed.wait(GATHER_SECONDS)

    def _tell_refusal(self, topic: str, why: str | None) -> None:
        """Say that a topic cannot be followed: a right is missing, say; the others go on."""
        if self._refusals.get(topic) == why:
            return
        if why is None:
            del self._refusals[topic]
        else:
            logger.warning("%s is not followed: %s", topic, why)
            self._refusals[topic] = why
        self._tell()

    def _delete_subscriptions(self) -> None:
        for topic, name in self._followed.items():
            try:
                self._broker.delete_subscription(topic, name)
            except BrokerError as error:
                logger.warning("the subscription %s was not deleted: %s", name, error)
