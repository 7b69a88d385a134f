"""What the Kafka clients say in the background.

librdkafka reports lost connections and refused credentials through callbacks, while calls just
time out; and it logs a line for each attempt. `ClientEvents` remembers the first, for errors that
say why, and lowers the second, so that an outage does not flood a terminal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from MessageBroker.errors import AuthenticationError, BrokerError
from MessageBroker.kafka.errors import MISSING_TOPIC, REFUSALS, is_outage, translate
from MessageBroker.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)
library_logger = logging.getLogger("MessageBroker.librdkafka")

Client = TypeVar("Client")

TLS_HINT = "is security.protocol right? The broker's listener must use TLS too"


class ClientEvents:
    """What one client said about its connections, by its callbacks.

    The callbacks run in whichever thread polls the client.

    Attributes:
        away: from when no broker could be reached until `answered`.
        topic_missed: a topic was not found. That may pass: ask before believing it.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._cause: KafkaError | None = None  # the last lost or refused connection
        self._refusal: KafkaError | None = None
        self.away = False
        self.topic_missed = False

    def open(
        self, kind: Callable[[dict[str, object]], Client], properties: Mapping[str, str]
    ) -> Client:
        """Make the client that speaks here.

        Raises:
            ConfigurationError: a property that the client library does not take.
        """
        try:
            return kind({**properties, "error_cb": self._on_error, "logger": _LibraryLog()})
        except KafkaException as error:
            raise self._settings.refused(error) from None

    def answered(self) -> None:
        """A broker answered: all that was said before is over."""
        self.away = False
        self._cause = self._refusal = None

    def refusal(self, tried: str) -> AuthenticationError | None:
        """Return the error if the brokers refused the credentials."""
        if self._refusal is None:
            return None
        error = translate(self._refusal, tried, self._refusal.str())
        return error if isinstance(error, AuthenticationError) else AuthenticationError(str(error))

    def explain(self, error: KafkaError, tried: str) -> BrokerError:
        """Translate an error of a call, by its cause in the background where that is known."""
        if is_outage(error):
            refusal = self.refusal(tried)
            if refusal is not None:
                return refusal
            if self._cause is not None:
                # A listener without TLS answers a handshake by closing the connection, or with
                # bytes that make no sense, as the moment wants it.
                hint = f"{self._cause.str()} ({TLS_HINT})" if self._settings.uses_tls else ""
                return translate(self._cause, tried, hint)
        return translate(error, tried)

    def unavailable(self) -> BrokerError:
        """Return the error for a broker that is away."""
        return self.explain(
            KafkaError(KafkaError._ALL_BROKERS_DOWN), f"Kafka at {self._settings.servers}"
        )

    def _on_error(self, error: KafkaError) -> None:
        code = error.code()
        if code in REFUSALS:
            self._refusal = error
        elif code == KafkaError._ALL_BROKERS_DOWN:
            self.away = True
        elif is_outage(error):
            self._cause = error
        elif code in MISSING_TOPIC:
            self.topic_missed = True
        else:
            logger.error("Kafka at %s: %s", self._settings.servers, error.str())


class _LibraryLog:
    """Takes librdkafka's log lines: at DEBUG, but for those that nothing else tells."""

    # Facility of a line: a partition whose offset was out of range.
    _RAISED = frozenset({"OFFSET"})

    def log(self, _level: int, text: str, *arguments: object) -> None:
        facility = arguments[0] if arguments else ""
        level = logging.ERROR if facility in self._RAISED else logging.DEBUG
        library_logger.log(level, text, *arguments)
