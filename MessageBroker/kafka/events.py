"""What the Kafka clients say in the background.

librdkafka reports lost connections and refused credentials through callbacks, while calls just
time out; and it logs a line for each attempt. `ClientEvents` remembers the first, for errors that
say why, and lowers the second, so that an outage does not flood a terminal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from MessageBroker.errors import BrokerError, BrokerUnavailableError
from MessageBroker.kafka.diagnosis import advice_where_away, error_of_finding
from MessageBroker.kafka.errors import (
    MISSING_TOPIC,
    REFUSALS,
    REFUSED_LOGINS,
    REFUSED_RIGHTS,
    Right,
    is_outage,
    meaning_of,
    translate,
)
from MessageBroker.kafka.faults import Finding
from MessageBroker.kafka.listener_probe import look_at
from MessageBroker.kafka.settings import KafkaSettings

logger = logging.getLogger(__name__)
library_logger = logging.getLogger("MessageBroker.librdkafka")

# Credentials that worked and are refused in mid-run are tried for so long (s).
REFUSED_LOGIN_SECONDS = 60.0

Client = TypeVar("Client")


class ClientEvents:
    """What one client said about its connections, by its callbacks.

    The callbacks run in whichever thread polls the client, and an answer may come to another one:
    what is remembered is read once, and may be forgotten while it is looked at.

    Attributes:
        away: from when no broker could be reached until `answered`.
        fine: a broker has answered, and nothing was said since.
        topic_missed: a topic was not found. That may pass: ask before believing it.
    """

    def __init__(self, settings: KafkaSettings, rights: Sequence[Right] = ()) -> None:
        """Begin with nothing said.

        Args:
            settings: the clients' properties.
            rights: what the client needs to do its work.
        """
        self._settings = settings
        self._rights = {right.kind: right for right in rights}
        self._cause: KafkaError | None = None  # the last lost or refused connection
        self._refusal: KafkaError | None = None
        self._finding: Finding | None = None  # what is wrong with TLS, looked at once an outage
        self._looked = False
        self._listened_to: object = None  # the log of the client that was made last
        self._told: set[int] = set()  # codes of errors that stand in the log
        self._refused_since = 0.0
        self._worked = False
        self.fine = False
        self.away = False
        self.topic_missed = False

    def open(
        self,
        kind: Callable[[dict[str, object]], Client],
        properties: Mapping[str, str],
        **callbacks: Callable[..., None],
    ) -> Client:
        """Make the client that speaks here from now on; an earlier one is heard no more.

        Args:
            kind: its class.
            properties: librdkafka's.
            callbacks: what else it shall call, by the client library's names.

        Raises:
            ConfigurationError: a property that the client library does not take.
        """
        log = self._listened_to = _LibraryLog(self._settings)

        def hear(error: KafkaError) -> None:
            if self._listened_to is log:  # one that is being closed has no broker, and says so
                self._on_error(error)

        try:
            return kind({**properties, **callbacks, "error_cb": hear, "logger": log})
        except KafkaException as error:
            raise self._settings.refused(error) from None

    def answered(self) -> None:
        """Note that a broker answered: all that was said before is over."""
        self.away = False
        self.fine = self._worked = True
        self._cause = self._refusal = self._finding = None
        self._looked = False
        self._told.clear()

    def heard(self, error: KafkaError) -> None:
        """Take note of an error that came in place of a message: it is said once, not again."""
        if error.code() in REFUSALS:
            self._refuse(error)

    def refusal(self, tried: str) -> BrokerError | None:
        """Return the error if the brokers refused the credentials, or a right."""
        refusal = self._refusal
        if refusal is None or self._may_pass(refusal):
            return None
        return self.explain(refusal, tried)

    def refused_login(self) -> KafkaError | None:
        """Return what the brokers said of credentials that they took before, for too long."""
        refusal = self._refusal
        if refusal is None or refusal.code() not in REFUSED_LOGINS or self._may_pass(refusal):
            return None
        return refusal

    def _may_pass(self, error: KafkaError) -> bool:
        """Tell whether credentials are refused that worked, and not for long: they may come back.

        Whoever changes a password changes it in two places, and brokers learn of it by and by.
        """
        lasted = time.monotonic() - self._refused_since
        return error.code() in REFUSED_LOGINS and self._worked and lasted < REFUSED_LOGIN_SECONDS

    def explain(
        self,
        error: KafkaError,
        tried: str,
        right: Right | None = None,
        otherwise: type[BrokerError] = BrokerError,
    ) -> BrokerError:
        """Translate an error of a call, by its cause in the background where that is known.

        Args:
            error: what the call said.
            tried: what was tried and where, as the beginning of a sentence.
            right: the right that it needs, where it is none of the client's.
            otherwise: the class for codes that have none of their own.
        """
        if is_outage(error):
            error = self._refusal or self._cause or error
        kind = REFUSED_RIGHTS.get(error.code(), "")
        explained = translate(
            error,
            tried,
            principal=self._settings.principal,
            right=right or self._rights.get(kind),
            away=advice_where_away(self._settings.servers),
            otherwise=otherwise,
        )
        return BrokerUnavailableError(str(explained)) if self._may_pass(error) else explained

    def unavailable(self) -> BrokerError:
        """Return the error for a broker that is away. Of TLS, the library does not say why."""
        cause = self._cause
        if cause is not None and cause.code() == KafkaError._SSL:
            if not self._looked:
                self._looked = True
                self._finding = look_at(self._settings.servers, self._settings.connecting)
            finding = self._finding
            if finding is not None:
                found = error_of_finding(finding, self._settings.servers, tls=True, told=False)
                return BrokerUnavailableError(str(found))
        return self.explain(
            KafkaError(KafkaError._ALL_BROKERS_DOWN), f"Kafka at {self._settings.servers}"
        )

    def _refuse(self, error: KafkaError) -> None:
        if self._refusal is None:
            self._refused_since = time.monotonic()
        self._refusal = error

    def _on_error(self, error: KafkaError) -> None:
        code = error.code()
        self.fine = False
        if code in REFUSALS:
            self._refuse(error)
        elif code == KafkaError._ALL_BROKERS_DOWN:
            self.away = True
        elif is_outage(error):
            self._cause = error
        elif code in MISSING_TOPIC:
            self.topic_missed = True
        elif code == KafkaError._BAD_MSG and not self._worked:
            pass  # no Kafka, or TLS: said at each attempt; whoever asked for an answer looks at it
        elif code not in self._told:  # the client says it at each attempt
            self._told.add(code)
            logger.error("Kafka at %s: %s", self._settings.servers, meaning_of(error))


class _LibraryLog:
    """Takes librdkafka's log lines: at DEBUG, but for those that nothing else tells."""

    # Facility of a line: a partition whose offset was out of range.
    _RAISED = frozenset({"OFFSET"})

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def log(self, _level: int, text: str, *arguments: object) -> None:
        facility = arguments[0] if arguments else ""
        level = logging.ERROR if facility in self._RAISED else logging.DEBUG
        if library_logger.isEnabledFor(level):
            library_logger.log(level, "%s", self._settings.without_secrets(text % arguments))
