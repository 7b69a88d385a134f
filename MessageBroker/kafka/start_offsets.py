"""Where one consumer's group goes on in each partition, and where it begins.

Kafka keeps where a group is in a partition only once somebody has committed an offset, and an admin
client that commits one late skips messages. So a start offset is committed only by a member, for
partitions that it owns and that have none yet: of two consumers that create a group at once, the
second finds what the first has chosen.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from MessageBroker.kafka.admin import KafkaAdmin
from MessageBroker.kafka.committed_offsets import (
    GroupReader,
    GroupTopic,
    Note,
    of_this_topic,
    read_committed,
    require_own,
)
from MessageBroker.kafka.errors import error_of
from MessageBroker.kafka.events import ClientEvents

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Starts:
    """Where a group goes on in partitions.

    Attributes:
        known: partitions to offsets, where the group was before.
        new: partitions to offsets, where it begins: to be committed before it does.
    """

    known: Mapping[int, int]
    new: Mapping[int, int]


class StartOffsets:
    """Where a group goes on in one topic."""

    def __init__(
        self,
        client: Consumer,
        events: ClientEvents,
        admin: KafkaAdmin,
        groups: GroupReader,
        consumed: GroupTopic,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            client: a consumer of the group.
            events: what it says in the background.
            admin: asks for the ends of partitions.
            groups: reads what the group has committed, beside the consumer: whoever polls that one
                would have to wait.
            consumed: the topic and the group.
        """
        self._client = client
        self._events = events
        self._admin = admin
        self._groups = groups
        self._consumed = consumed
        self._founded: int | None = None  # partitions of the topic when the group began

    def committed(self, partitions: Sequence[int], *, joined: bool = True) -> dict[int, int]:
        """Return the committed offsets in those of `partitions` where the group has one.

        Raises:
            BrokerUnavailableError, AuthenticationError: they cannot be read, within 10 s.
        """
        wanted = {self._consumed.topic: partitions}
        return self._offsets_in(
            of_this_topic(
                read_committed(
                    self._client, self._events, self._consumed.where, wanted, joined=joined
                ),
                self._consumed.topic_id,
            )
        )

    def _read(self, partitions: Sequence[int]) -> dict[int, int]:
        """Do as `committed` does, beside whoever polls the consumer."""
        return self._offsets_in(self._groups.read(self._consumed, partitions))

    def _offsets_in(self, found: Sequence[TopicPartition]) -> dict[int, int]:
        counts = (Note.of(each).partitions_at_start for each in found)
        self._founded = next((each for each in counts if each is not None), self._founded)
        return {each.partition: each.offset for each in found}

    def require_new_group(self) -> None:
        """See `require_own`."""
        require_own(self._client, self._events, self._consumed, self._admin.topics())

    def find(self, partitions: Sequence[int]) -> Starts:
        """Tell where to go on in newly assigned partitions. In any thread; it may take very long.

        Returns:
            The offsets of those that have a leader. Without one nothing can be asked or fetched.

        Raises:
            BrokerError: it cannot be found out.
        """
        led = self._admin.with_leaders(self._consumed.topic)
        partitions = [each for each in partitions if each in led]
        if not partitions:
            return Starts({}, {})
        committed = self._read(partitions)
        earliest = self._admin.earliest(self._consumed.topic, partitions)
        for partition, offset in committed.items():
            if offset < earliest[partition]:
                logger.error(
                    "%s: retention removed the messages of partition %d from offset %d to %d "
                    "before this group had them: going on at the earliest that is left",
                    self._consumed.where,
                    partition,
                    offset,
                    earliest[partition] - 1,
                )
        new = [each for each in partitions if each not in committed]
        return Starts(
            known={each: max(offset, earliest[each]) for each, offset in committed.items()},
            new=self._begin(new, earliest) if new else {},
        )

    def _begin(self, new: Sequence[int], earliest: Mapping[int, int]) -> dict[int, int]:
        """Choose the first offset in partitions where the group has none."""
        everywhere = self._admin.partitions(self._consumed.topic) or new
        self._read(everywhere)  # may tell when the group was founded
        if self._founded is None:
            self._founded = len(everywhere)
        # Partitions added to the topic since belong to the group from their first message on.
        added = [each for each in new if each >= self._founded]
        if self._consumed.from_the_beginning:
            added = list(new)
        founding = [each for each in new if each not in added]
        latest = self._admin.latest(self._consumed.topic, founding) if founding else {}
        return {**{each: earliest[each] for each in added}, **latest}

    def to_commit(self, offsets: Mapping[int, int]) -> list[TopicPartition]:
        """Make offsets as the client takes them, each with a note beside it."""
        note = str(Note(self._founded, self._consumed.topic_id))
        return [
            TopicPartition(self._consumed.topic, each, offset, note)
            for each, offset in offsets.items()
        ]

    def begin_to_commit(self, offsets: Mapping[int, int]) -> None:
        """Commit as a member, without waiting: the client tells by `on_commit` what came of it."""
        self._client.commit(offsets=self.to_commit(offsets), asynchronous=True)

    def commit(self, offsets: Mapping[int, int]) -> KafkaError | None:
        """Commit as a member: the coordinator refuses it from one that is none any more."""
        try:
            done = self._client.commit(offsets=self.to_commit(offsets), asynchronous=False)
        except KafkaException as exception:
            return error_of(exception)
        return next((each.error for each in done if each.error is not None), None)
