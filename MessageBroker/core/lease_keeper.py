"""Keeps the leases of what an application has not settled, in a thread beside its own.

An application may work on a batch for an hour without a call. Meanwhile its leases are renewed,
what it kept for too long is given back, and what the broker could not be told while it was away,
acknowledgements and what is given back, is told again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from MessageBroker.core.driver import Stream
from MessageBroker.core.outage import Outage
from MessageBroker.core.outstanding import Outstanding
from MessageBroker.errors import BrokerError, BrokerReplacedError, BrokerUnavailableError
from MessageBroker.message import Delivery

logger = logging.getLogger(__name__)

# What closing waits for a broker to take what was acknowledged, and how often it is tried (s).
LAST_ACKS_SECONDS = 3.0
RETRY_SECONDS = 0.1


class LeaseKeeper:
    """The leases of one subscription's outstanding deliveries.

    Attributes:
        late_acks: acknowledgements that came after the lease or the partition was lost.
        overdue: messages that were given back after `max_lease_seconds`.
    """

    def __init__(
        self,
        stream: Stream,
        outstanding: Outstanding,
        changed: threading.Condition,
        outage: Outage,
        look: Callable[[], None],
    ) -> None:
        """Begin to keep them.

        Args:
            stream: tells the broker. It is called without the lock.
            outstanding: what is to be kept.
            changed: guards the state of all deliveries; notified when some are lost.
            outage: told when the broker is away, which an application at work would not notice.
            look: called each time, for what else waits.
        """
        self.late_acks = 0
        self.overdue = 0
        self._stream = stream
        self._outstanding = outstanding
        self._changed = changed
        self._outage = outage
        self._look = look
        self._unsent_acks: list[Delivery] = []
        self._unreleased: list[Delivery] = []
        self._stopped = threading.Event()
        stream.on_lost = self._lose
        self._thread = threading.Thread(
            target=self._keep, name=f"leases of {outstanding.subscription_id}", daemon=True
        )
        self._thread.start()

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge what was marked as done; what the broker cannot take yet, later."""
        try:
            late = self._stream.acknowledge(deliveries)
        except BrokerUnavailableError:
            with self._changed:
                self._unsent_acks.extend(deliveries)
            return
        except BrokerReplacedError as error:
            logger.debug("%d acks of %s failed: %s", len(deliveries), self._name, error)
            late = len(deliveries)  # the next receive tells
        except BrokerError as error:
            logger.error("%d acks of %s failed: %s", len(deliveries), self._name, error)
            late = len(deliveries)
        with self._changed:
            self.late_acks += late

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back what is this consumer's no more; what the broker cannot take yet, later."""
        try:
            self._stream.release(deliveries)
        except BrokerUnavailableError as error:
            logger.debug("%d messages are given back later: %s", len(deliveries), error)
            with self._changed:
                self._unreleased.extend(deliveries)
        except BrokerReplacedError as error:
            logger.debug("%d messages were not given back: %s", len(deliveries), error)
        except BrokerError as error:
            logger.error(
                "%d messages of %s were not given back: %s", len(deliveries), self._name, error
            )

    def stop(self) -> None:
        """Let the thread end; the other methods still work."""
        self._stopped.set()
        self._thread.join()
        self._outage.leave(self)

    def retry_acks(self) -> None:
        """Tell the broker of acknowledgements that it could not take before."""
        with self._changed:
            deliveries, self._unsent_acks = self._unsent_acks, []
        if deliveries:
            self.acknowledge(deliveries)

    def await_acks(self) -> None:
        """Tell the broker of acknowledgements before all else is given back, if it takes them soon.

        What it was not told comes again.
        """
        deadline = time.monotonic() + LAST_ACKS_SECONDS
        self.retry_acks()
        while self._unsent_acks and time.monotonic() < deadline:
            time.sleep(RETRY_SECONDS)
            self.retry_acks()

    def lose_all(self) -> list[Delivery]:
        """Give up what is outstanding; return it, with what was to be given back anyway.

        The caller holds the lock.
        """
        outstanding = list(self._outstanding)
        self._outstanding.lose(outstanding)
        return outstanding + self._unreleased

    @property
    def _name(self) -> str:
        return self._outstanding.subscription_id

    def _keep(self) -> None:
        while not self._stopped.wait(self._stream.renew_interval):
            try:
                self.retry_acks()
                self._retry_releases()
                self._give_back_overdue()
                with self._changed:
                    outstanding = list(self._outstanding)
                try:
                    self._stream.renew(outstanding)
                finally:
                    self._look()
                self._outage.end(self)
            except BrokerUnavailableError as error:
                self._outage.begin(self, error)
            except BrokerReplacedError as error:
                logger.debug("leases were not renewed: %s", error)  # receive tells
            except BrokerError as error:
                logger.error("the leases of %s were not renewed: %s", self._name, error)
            except Exception:
                # A defect, ours or a client library's. Without this thread all leases would end.
                logger.exception("the leases of %s were not renewed", self._name)

    def _retry_releases(self) -> None:
        with self._changed:
            deliveries, self._unreleased = self._unreleased, []
        if deliveries:
            self.release(deliveries)

    def _give_back_overdue(self) -> None:
        with self._changed:
            overdue = self._outstanding.overdue()
        if overdue:
            logger.warning(
                "%d messages of %s were kept for longer than max_lease_seconds (%g): giving them "
                "back",
                len(overdue),
                self._name,
                self._outstanding.lease_seconds,
            )
            self.overdue += len(overdue)
            self._lose(overdue)
            self.release(overdue)

    def _lose(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            self._outstanding.lose(deliveries)
            self._changed.notify_all()
