"""Whether a file is a DB's text at all: somebody else's is neither read nor written into."""

from __future__ import annotations

from pathlib import Path

from DB.errors import DatabaseConfigurationError
from DurableText import codec


def refuse_foreign(path: Path, head: bytes, *, is_known: bool) -> None:
    """Raise if a file is another program's. Damage does not look so.

    Args:
        path: of the text.
        head: its first `codec.HEAD_BYTES`, or all there are.
        is_known: it was opened as a DB before.

    Raises:
        DatabaseConfigurationError: it is another program's, or a queue's.
    """
    whole_lines = head[: head.rfind(b"\n") + 1].strip()
    if whole_lines and b"\0" not in whole_lines and b'"crc":"' not in whole_lines:
        raise _refusal(path, "its lines have no crc")
    if not is_known and codec.begins_otherwise(head):
        raise _refusal(path, "it holds no lines of JSON")
    first = next(filter(codec.is_intact, whole_lines.split(b"\n")), b"")
    if first.startswith(codec.SEQ_PREFIX) and b',"stored_at":"' not in first:
        raise _refusal(path, "its lines are those of a queue")


def _refusal(path: Path, reason: str) -> DatabaseConfigurationError:
    return DatabaseConfigurationError(
        f"{path} is not a DB of this format ({reason}); "
        "name another file with --db, or move this one away"
    )
