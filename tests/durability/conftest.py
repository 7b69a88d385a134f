"""What the fault tests share."""

import pytest

import Queue.watch


@pytest.fixture
def no_inotify(monkeypatch):
    """A simulated disk has no inotify to tell of it, and closing a real one takes milliseconds."""
    monkeypatch.setattr(Queue.watch, "_open_inotify", lambda folder: None)
