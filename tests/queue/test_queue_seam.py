"""A path or a URL says what stands behind a queue; how it stands is asked of the object."""

from __future__ import annotations

from pathlib import Path

import pytest

from Queue import (
    FileQueue,
    QueueClosedError,
    QueueConfigurationError,
    QueueError,
    QueueFullError,
    QueuePassingError,
    QueueUnavailableError,
    Record,
    ResultQueue,
    default_queue,
    open_queue,
)

RECORDS = [Record(name, b'{"id":"%b","label":"7"}' % name.encode()) for name in "abc"]


def test_a_path_is_a_text_file(tmp_path: Path) -> None:
    with open_queue(tmp_path / "log.txt") as queue:
        assert isinstance(queue, FileQueue)
        assert isinstance(queue, ResultQueue)
        assert (queue.name, queue.shared) == (str(tmp_path / "log.txt"), False)
        queue.check(timeout=1.0)
        queue.put(RECORDS)
        batch = queue.take(2, timeout=0)
        assert queue.active
        assert batch.records == RECORDS[:2]
        assert queue.status().depth == 3
        queue.commit(batch)
        status = queue.status()
        assert (status.depth, status.oldest) == (1, RECORDS[2])
        assert queue.verify().records == 3


def test_an_unknown_scheme_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(QueueConfigurationError, match="ftp://"):
        open_queue("ftp://host/queue")
    with open_queue(str(tmp_path / "log.txt")) as queue:
        assert isinstance(queue, FileQueue)


def test_a_queue_that_is_opened_to_look_at_makes_nothing_and_changes_nothing(
    tmp_path: Path,
) -> None:
    with open_queue(tmp_path / "log.txt", read_only=True) as looking:
        with pytest.raises(QueueUnavailableError, match="there is no queue"):
            looking.status()
        assert list(tmp_path.iterdir()) == []
        with open_queue(tmp_path / "log.txt") as queue:
            queue.put(RECORDS)
        assert looking.status().depth == 3
        assert looking.verify().problem_count == 0
        looking.check(timeout=1.0)
        assert not looking.active
        for use in (lambda: looking.put(RECORDS), lambda: looking.take(1, 0), looking.flush):
            with pytest.raises(QueueClosedError, match="to look at it"):
                use()
        assert looking.status().depth == 3


def test_the_variable_names_the_queue_that_no_option_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RESULT_QUEUE", "/elsewhere/log.txt")
    assert default_queue() == "/elsewhere/log.txt"
    monkeypatch.setenv("RESULT_QUEUE", "")
    assert Path(default_queue()).name == "log.txt"


def test_trouble_that_passes_is_told_from_what_does_not() -> None:
    assert issubclass(QueueFullError, QueuePassingError)
    assert issubclass(QueueUnavailableError, QueuePassingError)
    assert not issubclass(QueueConfigurationError, QueuePassingError)
    assert issubclass(QueuePassingError, QueueError)
    assert QueueUnavailableError("away", appended=None).appended is None


def test_a_check_says_that_the_folder_is_gone(tmp_path: Path) -> None:
    with open_queue(tmp_path / "folder" / "log.txt") as queue:
        (tmp_path / "folder").rename(tmp_path / "elsewhere")
        with pytest.raises(QueueUnavailableError, match="is the folder there"):
            queue.check(timeout=1.0)
