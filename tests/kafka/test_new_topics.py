"""A topic of which one broker hears later than the others. Mocks: no cluster does so at will."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from MessageBroker import TopicNotFoundError
from MessageBroker.kafka.admin import KafkaAdmin, TopicSettings
from MessageBroker.kafka.cluster import Cluster
from MessageBroker.kafka.settings import KafkaSettings

MISSING = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


class UnevenCluster(Cluster):
    """The broker that leads a partition refuses some questions; another one tells of the topic."""

    def __init__(self, refusals: int, *, is_there: bool) -> None:
        super().__init__(KafkaSettings({"bootstrap.servers": "nowhere"}, {}, {}))
        self.refusals = refusals
        self._is_there = is_there

    @contextmanager
    def asking(self) -> Iterator[Any]:
        yield SimpleNamespace(list_offsets=self._list_offsets)

    def metadata(self, *_arguments: Any) -> Any:
        topic = SimpleNamespace(partitions={0: None}, error=None if self._is_there else MISSING)
        return SimpleNamespace(topics={"topic": topic})

    def _list_offsets(self, request: dict[Any, Any], **_named: Any) -> dict[Any, Future[Any]]:
        answers: dict[Any, Future[Any]] = {each: Future() for each in request}
        for answer in answers.values():
            if self.refusals:
                answer.set_exception(KafkaException(MISSING))
            else:
                answer.set_result(SimpleNamespace(offset=7))
        self.refusals = max(0, self.refusals - 1)
        return answers


def test_a_leader_that_has_not_heard_of_a_topic_yet_is_asked_again() -> None:
    admin = KafkaAdmin(UnevenCluster(3, is_there=True), TopicSettings())
    assert admin.latest("topic", [0]) == {0: 7}


def test_a_topic_that_is_not_there_is_told_at_once() -> None:
    cluster = UnevenCluster(1000, is_there=False)
    with pytest.raises(TopicNotFoundError):
        KafkaAdmin(cluster, TopicSettings()).latest("topic", [0])
    assert cluster.refusals == 999
