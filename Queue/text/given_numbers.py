"""The numbers that were given to records, as the files of a queue know them.

A number is never given twice: a consumer that has read the first record with it would take the
second one for old. So the next one is the highest of: the last intact line of each recent segment
+ 1; the numbers in the names of sealed and void files + 1; the cursor. And a void file, which
nobody reads any more, stays until others know its numbers.
"""

from __future__ import annotations

import contextlib

from DurableText.storage import Storage
from Queue.text import cursor, place, segment
from Queue.text.segment import QueuePaths

# Sealed segments whose last line is read for the next number. One would do, but for a series of
# failed writes, each of which may leave a file that ends before the one it replaces.
RECENT_SEGMENTS = 16


def next_after(storage: Storage, paths: QueuePaths, last: int) -> int:
    """Return the number of the next record.

    Args:
        storage: the disk.
        paths: where the files are.
        last: the highest number that the log itself shows; 0 for none.

    Raises:
        OSError: a file cannot be read.
    """
    numbers = [last + 1]
    for sealed in segment.list_sealed(storage, paths)[-RECENT_SEGMENTS:]:
        numbers.append(sealed.first_seq + 1)
        try:
            numbers.append((segment.sealed_last_seq(storage, sealed.path) or 0) + 1)
        except FileNotFoundError:  # a consumer has just removed it: all committed
            continue
    numbers += [number + 1 for number, _ in segment.list_void(storage, paths)]
    # Last: a consumer moves the cursor first and removes the segment then, so the numbers of one
    # that was gone when it was looked for are in the cursor by now.
    committed = cursor.peek(storage, paths.cursor)
    numbers.append(committed.next_seq if committed else 1)
    return max(numbers)


def remove_void(storage: Storage, paths: QueuePaths, last: int) -> None:
    """Remove the void files whose numbers are known without them.

    Nor before the cursor has passed them: a consumer may be about to commit what it read there. One
    that cannot be removed stays until the next sealing.

    Args:
        storage: the disk.
        paths: where the files are.
        last: up to this number all stand in the log, durably.
    """
    with contextlib.suppress(OSError):
        void = segment.list_void(storage, paths)
        committed = cursor.peek(storage, paths.cursor) if void else None
        done = committed.next_seq - 1 if committed else 0
        for number, path in void:
            if number <= min(last, done):
                place.put_away(storage, path)
