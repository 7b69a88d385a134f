"""Files of a checkpoint are on the disk itself before they have their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from DurableText.files import syncing
from Modelling.network.replacing import write_atomically


def test_where_a_sync_stops_at_the_drives_cache_the_call_that_goes_on_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    full = 51  # F_FULLFSYNC, as macOS has it
    monkeypatch.setattr(syncing, "FULL_SYNC", full)
    monkeypatch.setattr(
        "fcntl.fcntl", lambda fd, call: call == full and synced.append(os.fstat(fd).st_ino)
    )

    write_atomically(tmp_path / "a.json", b"{}")

    assert (tmp_path / "a.json").stat().st_ino in synced
