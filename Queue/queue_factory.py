"""`open_queue`: which engine it is, a path or a URL says."""

from __future__ import annotations

import os
import re
from pathlib import Path

from Installation.places import state_folder
from Queue.errors import QueueConfigurationError
from Queue.queue_interface import ResultQueue

DEFAULT_PATH = state_folder() / "Queue" / "log.txt"

# Names the queue where no option does.
VARIABLE = "RESULT_QUEUE"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def default_queue() -> str | Path:
    """Return the URL or path of the queue that nobody named: `RESULT_QUEUE`, else the text file."""
    return os.environ.get(VARIABLE) or DEFAULT_PATH


def open_queue(where: str | os.PathLike[str], *, read_only: bool = False) -> ResultQueue:
    """Open the queue at a path or URL. An engine's client is imported only here.

    Args:
        where: a path is a text file.
        read_only: for `status` and `verify`: nothing is made, changed or waited for; the queue may
            come later.

    Raises:
        QueueConfigurationError: the URL is wrong, or what it names is no queue of this program.
        QueueUnavailableError: it cannot be used for now.
    """
    scheme = _SCHEME.match(where) if isinstance(where, str) else None
    if scheme is not None:
        raise QueueConfigurationError(
            f"the queue's URL begins with {scheme[0]}; a path is a text file, and nothing else is "
            "known"
        )
    from Queue.text.file_queue import FileQueue
    from Queue.text.queue_reader import QueueReader

    return QueueReader(where) if read_only else FileQueue(where)
