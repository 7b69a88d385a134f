"""`open_queue`: which engine it is, a path or a URL says."""

from __future__ import annotations

import os
from pathlib import Path

from DurableText.installation.extras import needs
from DurableText.installation.places import state_folder
from DurableText.program.urls import scheme_of
from Queue.errors import QueueConfigurationError
from Queue.queue_interface import ResultQueue

DEFAULT_PATH = state_folder() / "Queue" / "log.txt"

# Names the queue where no option does.
VARIABLE = "RESULT_QUEUE"


def default_queue() -> str | Path:
    """Return the URL or path of the queue that nobody named: `RESULT_QUEUE`, else the text file."""
    return os.environ.get(VARIABLE) or DEFAULT_PATH


def open_queue(
    where: str | os.PathLike[str],
    *,
    read_only: bool = False,
    state_dir: Path | None = None,
) -> ResultQueue:
    """Open the queue at a path or URL. An engine's client is imported only here.

    Args:
        where: a path is a text file, `redis://…`, `rediss://…` and `unix://…` are a stream of Redis
            or Valkey.
        read_only: for `status` and `verify`: nothing is made, changed or waited for; the queue may
            come later.
        state_dir: where this host remembers what a server had, to notice that it came back empty.

    Raises:
        QueueConfigurationError: the URL is wrong, the engine's client is not installed, or what it
            names is no queue of this program.
        QueueUnavailableError: it cannot be used for now.
    """
    try:
        scheme = scheme_of(where)
    except ValueError as error:
        raise QueueConfigurationError(f"the queue's place {error}") from error
    if scheme is None:
        from Queue.text.file_queue import FileQueue
        from Queue.text.queue_reader import QueueReader

        return QueueReader(where) if read_only else FileQueue(where)
    if scheme in ("redis", "rediss", "unix"):
        with needs(f"a queue at {scheme}://", QueueConfigurationError):
            from Queue.redis.queue import RedisQueue
        return RedisQueue(str(where), read_only=read_only, state_dir=state_dir)
    raise QueueConfigurationError(
        f"the queue's URL begins with {scheme}://; a path is a text file, and redis://, rediss:// "
        "and unix:// are what is known"
    )
