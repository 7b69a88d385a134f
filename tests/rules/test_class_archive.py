"""The archive of Kafka's classes is made by one process, and is there when it is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers.class_archive import make_once


def test_it_is_made_once(tmp_path: Path) -> None:
    archive = tmp_path / "classes.jsa"
    made: list[Path] = []

    def record(partial: Path) -> bool:
        make_once(archive, record)  # a broker that it starts: it goes without
        made.append(partial)
        partial.write_bytes(b"classes")
        return True

    for _ in range(2):
        make_once(archive, record)
    assert len(made) == 1
    assert archive.read_bytes() == b"classes"


@pytest.mark.parametrize(("written", "complete"), [(b"half", False), (None, True)])
def test_what_is_not_complete_is_none(
    tmp_path: Path, written: bytes | None, complete: bool
) -> None:
    archive = tmp_path / "classes.jsa"

    def record(partial: Path) -> bool:
        if written is not None:
            partial.write_bytes(written)
        return complete

    make_once(archive, record)
    assert not archive.exists()
