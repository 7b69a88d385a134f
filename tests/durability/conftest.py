"""What the fault tests share."""

import pytest

import Queue.text.tail_watch


@pytest.fixture
def no_inotify(monkeypatch):
    """A simulated disk has no inotify to tell of it, and closing a real one takes milliseconds."""

    def refuse(_log):
        raise OSError("none in this test")

    monkeypatch.setattr(Queue.text.tail_watch, "_Inotify", refuse)
