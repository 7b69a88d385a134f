"""The consumer's part of the contract: what is done with messages that were received.

See `broker_interface` for what holds of all of it: delivery, order, attempts, failover, outages.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from DurableText.program.closing import ClosedAtExit
from MessageBroker.message import Message


class Subscription(ClosedAtExit):
    """A consumer's end of one subscription.

    One thread calls `receive`; the other methods may be called from any thread. It is a context
    manager: leaving it closes it.
    """

    topic: str
    subscription_id: str

    @abstractmethod
    def receive(self, max_messages: int, timeout: float) -> list[Message]:
        """Receive what is there, up to `max_messages`.

        Returns as soon as there is anything, with all that is there. Messages that were nacked
        come again from here once their back-off is over.

        Args:
            max_messages: at least 1.
            timeout: seconds to wait for the first message.

        Returns:
            The messages; `[]` after `timeout` seconds without one, and while
            `max_outstanding_messages` or `max_outstanding_bytes` are un-acked.

        Raises:
            ClosedError: the subscription or its broker was closed.
            BrokerError: one that waiting cannot cure (a deleted topic, revoked credentials). A
                broker that went away is waited for.
        """

    @abstractmethod
    def ack(self, messages: Sequence[Message]) -> None:
        """Acknowledge: these messages are done and shall not come again.

        In any order; a second time is fine; late (after the lease or the partition was lost) is
        harmless and counted in `late_acks`. Nothing earlier that is still un-acked is ever
        skipped by a later ack. While the broker is away acks are kept, and sent when it is back.

        Raises:
            TypeError: not all of them are messages. Nothing was acknowledged.
            ValueError: some were received by another subscription. Nothing was acknowledged.
        """

    @abstractmethod
    def nack(self, messages: Sequence[Message], delay: float | None = None) -> None:
        """Ask for these messages again, after a back-off.

        They stay in this process with their lease kept, and are handed out again from memory.
        Neighbours are not replayed and flow on, but for messages of the same key, which wait. At
        `max_delivery_attempts` a message goes to the dead-letter topic instead; on a subscription
        of a dead-letter topic it never moves.

        Args:
            messages: messages of this subscription. One already acked, lost or nacked is ignored.
            delay: seconds until the message comes again. None: exponential, from `min_backoff` to
                `max_backoff`, with jitter.

        Raises:
            TypeError, ValueError: as `ack`; or the delay is no number of seconds.
        """

    @abstractmethod
    def dead_letter(
        self,
        messages: Sequence[Message],
        reason: str,
        error: BaseException | str | Sequence[BaseException | str] = "",
    ) -> int:
        """Move messages to `<topic>-dead-letter`, with their original bytes and attributes.

        Adds the attributes `dead_letter_reason`, `dead_letter_error`, `dead_letter_attempts`,
        `dead_letter_source_topic`, `dead_letter_message_id` and `dead_letter_time` (RFC 3339,
        UTC). Waits until the broker has confirmed, then acks. What cannot be moved now stays
        un-acked and comes again after `max_backoff`, and one error is logged.

        What the dead-letter topic does not take as it is goes there without its body:
        `dead_letter_body` is `absent`, `dead_letter_place` says where the original stands, and
        `dead_letter_bytes` and `dead_letter_sha256` what it was. Where the topic has not answered
        after 10 s, letters wait in the background, `letters_waiting` of them: for
        `max_outstanding_messages` and `max_outstanding_bytes` there is room beside the messages
        that flow on, beyond that `receive` gives nothing.

        Args:
            messages: messages of this subscription.
            reason: why, in a few words that are the same for the same fault: letters are listed
                and replayed by it.
            error: the details; cut to fit an attribute. A list has those of each message.

        Returns:
            How many were moved by now.

        Raises:
            TypeError, ValueError: as `ack`; or the reason or the error is of another type.
            AuthenticationError, TopicNotFoundError, PublishError, MessageTooLargeError: the
                dead-letter topic refuses all that could be sent: nothing is lost, all that was not
                moved comes again. `nack` and `receive` may raise it too.
            ConfigurationError: this subscription is of a dead-letter topic itself.
            ClosedError: the subscription or its broker was closed.
        """

    @property
    @abstractmethod
    def late_acks(self) -> int:
        """Acks that came after the lease or the partition was lost: those messages come again."""

    @property
    @abstractmethod
    def outstanding(self) -> int:
        """How many messages this consumer was handed and has not settled yet."""

    @property
    def at_end(self) -> bool:
        """True if all that stands in the topic came to this consumer; False if nobody can tell."""
        return False

    @property
    @abstractmethod
    def overdue(self) -> int:
        """Messages that were given back because they were un-acked for `max_lease_seconds`."""

    @property
    @abstractmethod
    def letters_waiting(self) -> int:
        """Dead letters that wait for a dead-letter topic that is away."""

    @property
    @abstractmethod
    def dead_lettered(self) -> int:
        """Messages that are in the dead-letter topic by now, whoever moved them and when.

        By `dead_letter`, by the last `nack`, because they could not be read; at once or later.
        """

    @property
    @abstractmethod
    def ready(self) -> bool:
        """True while the broker answers and, where it assigns, has assigned this consumer."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is un-acked: it is delivered again, here or elsewhere, at once.

        Where the broker does not answer, or another thread's `receive` is still under way, it is
        waited for up to 10 seconds; the log says so then, and what was not given back comes again
        when its lease ends. Twice is fine. Afterwards `receive` and `dead_letter` raise
        `ClosedError`; acks are late.
        """
