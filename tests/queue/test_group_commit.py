"""Who leads a group, and what it takes along: one thread writes for all that are in line."""

import threading

import pytest

from Queue.text import group_commit, numbered_lines
from Queue.text.group_commit import Entry, GroupCommit

PLENTY = 1 << 30


class Log:
    """Notes what is written, by whom; the first write waits until it is let go."""

    def __init__(self, room=PLENTY):
        self.room = room
        self.groups, self.writers = [], []
        self.entered, self.go = threading.Event(), threading.Event()
        self.commit = GroupCommit(self.admit, self.write, lambda: None)

    def admit(self, entry, _deadline):
        return max(self.room, entry.size)

    def write(self, group):
        self.groups.append([entry.bodies[0][:1] for entry in group])
        self.writers.append(threading.current_thread().name)
        if len(self.groups) == 1:
            self.entered.set()
            assert self.go.wait(20)

    def start(self, name, size=1):
        """Puts an entry in a thread of its own; returns when it is in line."""
        before = len(self.commit._waiting)
        entry = Entry([name.encode() * size])
        thread = threading.Thread(target=self.commit.put, args=(entry, None), name=name)
        thread.start()
        while len(self.commit._waiting) == before and not (
            entry.leader or entry.done or entry.group
        ):
            thread.join(0.001)
        return thread

    def begin(self, *names):
        """Writes a group of "a" alone, with `names` in line behind it."""
        threads = [self.start("a")]
        assert self.entered.wait(20)
        threads += [self.start(*([name] if isinstance(name, str) else name)) for name in names]
        self.go.set()
        threads[0].join(20)
        return threads[1:]


def end(threads):
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def patient(monkeypatch):
    """Nobody leads because the others did not come in time, or looks by itself."""
    monkeypatch.setattr(group_commit, "COMPANY_SECONDS", 60)
    monkeypatch.setattr(group_commit, "RECHECK_SECONDS", 60)


@pytest.mark.usefixtures("patient")
def test_the_one_that_makes_the_line_complete_leads_and_the_order_is_that_of_the_line():
    log = Log()
    threads = log.begin("b", "c")  # around the first group there were three
    assert [len(log.groups), len(log.commit._waiting)] == [1, 2]
    end([*threads, log.start("d")])
    assert log.groups == [[b"a"], [b"b", b"c", b"d"]]
    assert log.writers == ["a", "d"]


def test_the_first_in_line_leads_if_the_others_do_not_come():
    log = Log()
    end(log.begin("b", "c"))
    assert log.groups == [[b"a"], [b"b", b"c"]]
    assert log.writers == ["a", "b"]


@pytest.mark.usefixtures("patient")
def test_with_little_room_left_the_first_in_line_leads():
    log = Log(room=1000)
    threads = log.begin("b", "c")
    end([*threads, log.start("d")])
    assert log.groups == [[b"a"], [b"b", b"c", b"d"]]
    assert log.writers == ["a", "b"]


def test_a_leader_that_its_own_group_has_no_room_for_is_written_later(monkeypatch):
    monkeypatch.setattr(group_commit, "COMPANY_SECONDS", 0.5)
    log, size = Log(), group_commit.MAX_GROUP_BYTES * 2 // 3
    threads = log.begin(("b", size), ("c", size))
    end([*threads, log.start("d", size)])
    assert log.groups == [[b"a"], [b"b"], [b"c"], [b"d"]]
    assert log.writers == ["a", "d", "c", "d"]


@pytest.mark.usefixtures("patient")
def test_a_leader_that_cannot_be_admitted_fails_alone():
    log = Log()
    threads = log.begin("b", "c")
    failed = Entry([b"x"])

    def admit(entry, _deadline):
        if entry is failed:
            raise OSError("no lock")
        return PLENTY

    log.commit._admit = admit
    assert log.commit.put(failed, None)
    assert str(failed.error) == "no lock"
    end([*threads, log.start("d")])
    assert log.groups == [[b"a"], [b"b", b"c", b"d"]]


def test_a_put_counts_no_fewer_bytes_than_it_takes_with_numbers_of_ten_digits():
    bodies = [b'"a":1', b'"a":2']
    lines = numbered_lines.frame_numbered(bodies, 9_999_999_998)
    assert Entry(bodies).size == sum(map(len, lines))
