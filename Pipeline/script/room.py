"""A full disk at the start: waited out, as one in mid-run is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from DurableText.storage import lacks_room
from Pipeline.observability.waiting import Reason, Waiting
from Pipeline.script.waiting import wait_out
from Pipeline.stop import Stop, StoppedError

Result = TypeVar("Result")


class NoRoomError(Exception):
    """Raised, and waited out, when something cannot be opened because a disk is full."""


def once_there_is_room(
    attempt: Callable[[], Result], reason: Reason, stop: Stop, waiting: Waiting
) -> Result:
    """Open something; wait while the disk has no room for it, however long that takes.

    Args:
        attempt: opens it.
        reason: what is waited for then.
        stop: ends the waiting.
        waiting: told what is waited for.

    Raises:
        StoppedError: the script shall stop.
    """

    def look() -> Result:
        try:
            return attempt()
        except Exception as error:
            if lacks_room(error):
                raise NoRoomError(str(error)) from error
            raise

    opened = wait_out({NoRoomError: reason}, look, stop, waiting)
    if opened is None:
        raise StoppedError
    return opened
