"""Rot: flipped bits, torn and garbage tails, damaged cursors, missing and doubled segments."""

import json

import pytest

import DurableText.quarantine
from DurableText.codec import frame, is_intact
from Queue import QueueConfigurationError
from Queue.text.cursor import SLOT_BYTES, Position, _encode
from Queue.text.numbered_lines import frame_numbered
from tests.durability.simulated_disk import SimulatedDisk
from tests.queue.of_dicts import FileQueue

pytestmark = pytest.mark.usefixtures("no_inotify")


def lines(first, last):
    bodies = [b'"n":%d' % number for number in range(first, last + 1)]
    return b"".join(frame_numbered(bodies, first))


def open_queue(disk, **options):
    return FileQueue(disk.folder / "log.txt", storage=disk.process(), **options)


def drain(disk, put=()):
    """Puts, takes and commits everything; returns the numbers and the corrupt lines."""
    with open_queue(disk) as queue:
        if put:
            queue.put([{"n": number} for number in put])
        numbers, corrupt = [], []
        while batch := queue.take(7, timeout=0):
            numbers += [record["n"] for record in batch.records]
            corrupt += batch.corrupt
            queue.commit(batch)
    return numbers, corrupt


def quarantined(disk):
    file = disk.names.get(disk.folder / "log.quarantine.txt")
    return [json.loads(line) for line in bytes(file.seen).splitlines()] if file else []


@pytest.fixture
def disk(tmp_path):
    return SimulatedDisk(tmp_path)


def test_one_flipped_bit_costs_at_most_two_lines_and_no_order(tmp_path):
    healthy = lines(1, 20)
    for bit in range(len(healthy) * 8):
        damaged = bytearray(healthy)
        damaged[bit // 8] ^= 1 << bit % 8
        disk = SimulatedDisk(tmp_path)
        disk.put(tmp_path / "log.txt", bytes(damaged))
        numbers, corrupt = drain(disk, put=[21])
        assert numbers == sorted(set(numbers)), f"bit {bit}"
        assert len(numbers) >= 20, f"bit {bit}: {numbers}"
        assert numbers[-1] == 21, f"bit {bit}: the next record is lost"
        assert len(corrupt) <= 2, f"bit {bit}: {corrupt}"
        if len(numbers) < 21:
            assert corrupt, f"bit {bit}: one is missing, and nothing is said"
        assert len(quarantined(disk)) == len(corrupt), f"bit {bit}"
        assert drain(disk) == ([], []), f"bit {bit}: found again"


def test_truncated_at_every_byte_of_the_last_three_lines_the_rest_is_read_and_appended_to(tmp_path):
    healthy = lines(1, 10)
    start = len(lines(1, 7))
    for size in range(start, len(healthy) + 1):
        disk = SimulatedDisk(tmp_path)
        disk.put(tmp_path / "log.txt", healthy[:size])
        whole = healthy[:size].count(b"\n")
        numbers, corrupt = drain(disk, put=[100])
        torn = healthy[:size].rsplit(b"\n")[-1]
        if is_intact(torn):
            whole += 1  # only the newline was missing
        assert corrupt == [], f"cut at {size}: a line that was cut short is no damage"
        assert len(quarantined(disk)) == (bool(torn) and not is_intact(torn)), f"cut at {size}"
        assert numbers == [*range(1, whole + 1), 100], f"cut at {size}"
        last = disk.content(tmp_path / "log.txt").splitlines()[-1]
        assert json.loads(last)["n"] == 100, "the next record is not on a line of its own"
        assert drain(disk) == ([], [])


CUT_SHORT = [b'{"seq":11']


@pytest.mark.parametrize(
    "tail",
    [
        *CUT_SHORT,
        b"\0",
        b"\0" * 5000,
        b"\0" * 5000 + b"\n",
        b"\xff\xfe garbage",
        b"garbage\nmore garbage\n",
        b"\n\n\n",
        b'{"seq":11,"n":11}\n',
        b"x" * (3 << 20),
        b"\0" * (3 << 20) + b"\n",
    ],
    ids=lambda tail: f"{tail[:12]!r}x{len(tail)}",
)
def test_a_tail_of_garbage_is_passed_and_the_next_record_is_not_glued_to_it(disk, tail):
    disk.put(disk.folder / "log.txt", lines(1, 10) + tail)
    numbers, corrupt = drain(disk, put=[11])
    assert numbers == list(range(1, 12))
    assert bool(corrupt) == (bool(tail.strip(b"\n")) and tail not in CUT_SHORT)
    assert bool(quarantined(disk)) == bool(tail.strip(b"\n"))
    assert drain(disk) == ([], [])


def test_a_record_glued_to_a_torn_one_is_saved(disk):
    disk.put(disk.folder / "log.txt", lines(1, 3) + lines(4, 4)[:17] + lines(5, 6))
    numbers, corrupt = drain(disk)
    assert numbers == [1, 2, 3, 5, 6]
    assert [line.raw for line in corrupt] == [lines(4, 4)[:17]]


def test_a_corrupt_line_is_handed_over_with_bytes_place_and_reason_and_kept_before_the_commit(disk):
    bad = lines(2, 2).replace(b'"n":2', b'"n":3')
    disk.put(disk.folder / "log.txt", lines(1, 1) + bad + lines(3, 3))
    queue = open_queue(disk)
    batch = queue.take(10, timeout=0)
    assert [record["n"] for record in batch.records] == [1, 3]
    assert batch.first_seq == 1
    (line,) = batch.corrupt
    assert (line.raw, line.file, line.offset) == (bad[:-1], "log.txt", len(lines(1, 1)))
    assert "checksum" in line.reason
    assert quarantined(disk) == []
    queue.commit(batch)
    (entry,) = quarantined(disk)
    assert (entry["offset"], entry["reason"]) == (line.offset, line.reason)
    queue.close()


def test_a_corrupt_line_is_kept_once_however_often_it_is_taken(disk):
    disk.put(disk.folder / "log.txt", lines(1, 1) + b"garbage\n" + lines(2, 2))
    for _ in range(3):
        with open_queue(disk) as queue:
            assert len(queue.take(10, timeout=0).corrupt) == 1
    drain(disk)
    disk.names.pop(disk.folder / "log.cursor")
    assert len(drain(disk)[1]) == 1
    assert len(quarantined(disk)) == 1


@pytest.mark.parametrize("line", [b'{"x":1', b'{"base64":5', b'{"base64":"","reason":1'])
def test_lines_of_other_programs_in_the_quarantine_keep_no_batch_from_its_commit(disk, line):
    disk.put(disk.folder / "log.quarantine.txt", frame(line) + b"hello\n")
    disk.put(disk.folder / "log.txt", lines(1, 1) + b"garbage\n" + lines(2, 2))
    assert len(drain(disk)[1]) == 1
    assert b'"text":"garbage"' in disk.content(disk.folder / "log.quarantine.txt")


def test_long_corrupt_lines_that_come_again_are_kept_once_and_few_are_remembered(
    tmp_path, monkeypatch
):
    """The cursor is lost, and everything comes again."""
    monkeypatch.setattr(DurableText.quarantine, "REMEMBERED", 8)
    garbage = b"".join(b"%d" % number + b"x" * 600_000 + b"\n" for number in range(8))
    kept = b""
    for copies in (1, 1, 2):
        disk = SimulatedDisk(tmp_path)
        disk.put(tmp_path / "log.txt", lines(1, 1) + garbage * copies + lines(2, 2))
        disk.put(tmp_path / "log.quarantine.txt", kept)
        with open_queue(disk) as queue:
            while batch := queue.take(3, timeout=0):
                queue.commit(batch)
            assert len(queue._slot.consumer._quarantine._known) == 8
        kept = disk.content(tmp_path / "log.quarantine.txt")
        assert len(quarantined(disk)) == 8 * copies


@pytest.mark.parametrize("then_sealed", [False, True])
def test_damage_before_the_first_record_is_handed_over_once(disk, then_sealed):
    open_queue(disk).close()  # else the text might be another program's
    disk.put(disk.folder / "log.txt", b"garbage" + b"\0" * 200)
    assert len(drain(disk)[1]) == 1
    assert drain(disk) == ([], [])
    if then_sealed:
        with open_queue(disk, segment_bytes=100) as queue:
            queue.put([{"n": 1}])
        assert drain(disk) == ([1], [])
    assert drain(disk, put=[2])[0] == [2]


def test_a_place_behind_damage_is_not_believed_where_records_stand_before_it(disk):
    place = Position(0, segment=0, offset=len(lines(1, 2)))
    disk.put(disk.folder / "log.cursor", _encode(1, place) + b" " * SLOT_BYTES)
    disk.put(disk.folder / "log.txt", lines(1, 3))
    assert drain(disk) == ([1, 2, 3], [])


def test_a_gap_above_the_cursor_is_quarantined_once_and_passed(disk):
    disk.put(disk.folder / "log.txt", lines(1, 3) + lines(7, 9))
    numbers, corrupt = drain(disk)
    assert numbers == [1, 2, 3, 7, 8, 9]
    assert [line.reason for line in corrupt] == ["gap: records 4 to 6 are missing before this line"]
    assert len(quarantined(disk)) == 1
    assert drain(disk) == ([], [])


def test_a_gap_below_the_cursor_is_what_a_power_loss_may_leave(disk):
    disk.put(disk.folder / "log.cursor", _encode(1, Position(8)) + b" " * SLOT_BYTES)
    disk.put(disk.folder / "log.txt", lines(1, 3))
    assert drain(disk, put=[8, 9]) == ([8, 9], [])


def test_a_hint_that_points_past_other_lines_than_it_was_written_for_is_not_believed(disk):
    # Lines 10 to 19 were committed; a power loss took 14 to 19, whose place 20 to 25 have taken.
    # They are as long, so that the offset falls between two lines again.
    ahead = Position(20, segment=10, offset=len(lines(10, 19)))
    disk.put(disk.folder / "log.cursor", _encode(1, ahead) + b" " * SLOT_BYTES)
    disk.put(disk.folder / "log.txt", lines(10, 13))
    with open_queue(disk) as queue:
        queue.put([{"n": number} for number in range(20, 26)])
    assert len(disk.content(disk.folder / "log.txt")) == ahead.offset
    assert drain(disk) == (list(range(20, 26)), [])


@pytest.mark.parametrize(
    ("slots", "first"),
    [
        ((None, None), 1),
        ((b"", b""), 1),
        ((b"\0" * 512, b"\0" * 512), 1),
        ((b"garbage", b"garbage" * 80), 1),
        ((3, None), 3),
        ((None, 5), 5),
        ((3, 5), 5),
        ((3, b"garbage"), 3),
        ((b"garbage", 5), 5),
        ((30, b""), 21),
    ],
)
def test_whatever_is_left_of_the_cursor_nothing_above_it_is_lost(disk, slots, first):
    """A cursor that is empty, stale or unreadable brings records again; none is skipped."""
    data = b""
    for generation, slot in enumerate(slots):
        if isinstance(slot, int):
            slot = _encode(generation + 1, Position(slot))
        data += (slot or b"").ljust(SLOT_BYTES)
    if slots != (None, None):
        disk.put(disk.folder / "log.cursor", data)
    disk.put(disk.folder / "log.txt", lines(1, 20))
    numbers, corrupt = drain(disk, put=[99])
    assert numbers == [*range(first, 21), 99]
    assert corrupt == []
    assert drain(disk) == ([], [])


def test_a_missing_segment_is_a_gap_and_what_follows_is_delivered(disk):
    disk.put(disk.folder / "log.1.txt", lines(1, 5))
    disk.put(disk.folder / "log.11.txt", lines(11, 15))
    disk.put(disk.folder / "log.txt", lines(16, 18))
    numbers, corrupt = drain(disk)
    assert numbers == [*range(1, 6), *range(11, 19)]
    assert [line.reason for line in corrupt] == [
        "gap: records 6 to 10 are missing before this line"
    ]


def test_a_link_to_nowhere_in_the_place_of_a_segment_is_one_that_is_missing(tmp_path):
    """Whoever found its name, and no file, looked again and again until the stack was full."""
    (tmp_path / "log.1.txt").symlink_to("moved-away.txt")
    with FileQueue(tmp_path / "log.txt") as queue:
        assert not queue.take(9, timeout=0)
        queue.put([{"n": 1}])
        batch = queue.take(9, timeout=0)
        assert [record["n"] for record in batch.records] == [1]
        queue.commit(batch)
    with FileQueue(tmp_path / "log.txt") as queue:
        assert not queue.take(9, timeout=0)


def test_a_later_segment_voids_the_lines_of_older_ones_from_its_first_number_on(disk):
    stale = b"".join(frame_numbered([b'"n":%d' % (number + 100) for number in range(4, 8)], 4))
    disk.put(disk.folder / "log.1.txt", lines(1, 3) + stale)
    disk.put(disk.folder / "log.txt", lines(4, 9))
    assert drain(disk) == (list(range(1, 10)), [])


def test_sealed_segments_below_the_cursor_that_a_kill_left_are_removed(disk):
    disk.put(disk.folder / "log.cursor", _encode(1, Position(12)) + b" " * SLOT_BYTES)
    disk.put(disk.folder / "log.1.txt", lines(1, 5))
    disk.put(disk.folder / "log.6.txt", lines(6, 10))
    disk.put(disk.folder / "log.txt", lines(11, 13))
    assert drain(disk) == ([12, 13], [])
    assert sorted(path.name for path in disk.names if path.suffix == ".txt") == ["log.txt"]


def test_a_segment_of_nothing_but_damage_is_passed(disk):
    disk.put(disk.folder / "log.txt", lines(1, 2) + b"\0" * 700)
    with open_queue(disk, segment_bytes=100) as queue:
        queue.put([{"n": 3}])
    assert drain(disk, put=[4])[0] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b'{"id": "a", "label": "7"}\n', "Grüße\n".encode()]
)
def test_a_file_of_another_format_is_refused_and_left_alone(disk, content):
    disk.put(disk.folder / "log.txt", content)
    with pytest.raises(QueueConfigurationError, match="--queue"):
        open_queue(disk)
    assert disk.content(disk.folder / "log.txt") == content


def test_damage_is_never_taken_for_another_format(tmp_path):
    healthy = lines(1, 1)
    for bit in range(len(healthy) * 8):
        damaged = bytearray(healthy)
        damaged[bit // 8] ^= 1 << bit % 8
        disk = SimulatedDisk(tmp_path)
        disk.put(tmp_path / "log.txt", bytes(damaged))
        assert drain(disk, put=[2])[0][-1] == 2


def test_the_loss_of_either_slot_never_points_into_a_segment_that_was_removed(tmp_path):
    disk = SimulatedDisk(tmp_path)
    with open_queue(disk, segment_bytes=150) as queue:
        for number in range(1, 60, 3):
            queue.put([{"n": number + i} for i in range(3)])
            queue.commit(batch := queue.take(1 + number % 5, timeout=0))
            waiting = set(range(batch.records[-1]["n"] + 1, number + 3))
            for slot in range(2):
                copy = SimulatedDisk(tmp_path)
                for path in disk.names:
                    copy.put(path, disk.content(path))
                cursor = copy.names[tmp_path / "log.cursor"].seen
                cursor[slot * SLOT_BYTES : slot * SLOT_BYTES + 100] = b"x" * 100
                for lock in ("log.producer.lock", "log.consumer.lock"):
                    copy.names.pop(tmp_path / lock)
                numbers, corrupt = drain(copy)
                assert corrupt == [], f"after {number}, slot {slot}"
                assert waiting <= set(numbers)
        assert "unlink" in queue._storage.calls
