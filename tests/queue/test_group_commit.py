"""Who leads a group, and what it takes along: one thread writes for all that are in line."""

import threading

from Queue.text import group_commit, numbered_lines
from Queue.text.group_commit import GroupCommit, PendingPut

PLENTY = 1 << 30


class Log:
    """Notes what is written, by whom; the first write waits until it is let go."""

    def __init__(self, room=PLENTY, refused=b""):
        self.room, self.refused, self.entries = room, refused, []
        self.groups, self.writers = [], []
        self.entered, self.go = threading.Event(), threading.Event()
        self.commit = GroupCommit(self.admit, self.write, lambda: None)

    def admit(self, entry, _deadline):
        if entry.bodies == [self.refused]:
            raise OSError("no lock")
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
        entry = PendingPut([name.encode() * size])
        thread = threading.Thread(target=self.commit.put, args=(entry, None), name=name)
        thread.start()
        self.entries.append(entry)
        while len(self.commit._waiting) == before and not (entry.taken or entry.done):
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


def test_the_first_in_line_leads_and_the_order_is_that_of_the_line():
    log = Log()
    end(log.begin("b", "c", "d"))
    assert log.groups == [[b"a"], [b"b", b"c", b"d"]]
    assert log.writers == ["a", "b"]


def test_who_has_no_room_in_a_group_leads_the_next_one():
    log, size = Log(), group_commit.MAX_GROUP_BYTES * 2 // 3
    end(log.begin(("b", size), ("c", size), ("d", size)))
    assert log.groups == [[b"a"], [b"b"], [b"c"], [b"d"]]
    assert log.writers == ["a", "b", "c", "d"]


def test_with_little_room_the_group_takes_what_fits():
    log = Log(room=100)
    end(log.begin("b", "c", "d"))
    assert log.groups == [[b"a"], [b"b", b"c"], [b"d"]]


def test_a_leader_that_cannot_be_admitted_fails_alone():
    log = Log(refused=b"b")
    threads = log.begin("b", "c", "d")
    end(threads)
    assert log.groups == [[b"a"], [b"c", b"d"]]
    assert [str(entry.error) for entry in log.entries] == ["None", "no lock", "None", "None"]


def test_a_put_counts_no_fewer_bytes_than_it_takes_with_numbers_of_ten_digits():
    bodies = [b'"a":1', b'"a":2']
    lines = numbered_lines.frame_numbered(bodies, 9_999_999_998)
    assert PendingPut(bodies).size == sum(map(len, lines))
