"""Which partitions the client fetches nothing from, while their application is at work."""

from __future__ import annotations

from collections.abc import Collection

from confluent_kafka import Consumer


class Pauses:
    """The partitions of one consumer that are paused. Called where nobody else polls the client."""

    def __init__(self, client: Consumer) -> None:
        """Begin with none."""
        self._client = client
        self._paused: set[int] = set()

    def begin(self) -> None:
        """Let the client fetch nothing more, from partitions that have come since either."""
        more = [each for each in self._client.assignment() if each.partition not in self._paused]
        if more:
            self._client.pause(more)
            self._paused.update(each.partition for each in more)

    def end(self) -> None:
        """Let it fetch again."""
        if self._paused:
            assigned = self._client.assignment()
            self._client.resume([each for each in assigned if each.partition in self._paused])
            self._paused.clear()

    def forget(self, partitions: Collection[int]) -> None:
        """Forget partitions that are taken away: if they come back they are not paused."""
        self._paused.difference_update(partitions)
