"""What a process lacks that the system lets have so much and no more: what to do about it.

SQLite says of neither why it cannot go on.
"""

from __future__ import annotations

import errno
import os
import resource

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)

# SQLite's primary codes: of a file that cannot be opened; of one that cannot be written.
_CANTOPEN = 14
_NOT_WRITTEN = (10, 13)
_PRIMARY_CODE = 0xFF
# Its own, the log, the log's index, a journal.
_FILES_OF_SQLITE = 4


def what_is_lacking(error: BaseException) -> str | None:
    """Say what to do about an error that comes of a limit of this process; None of any other."""
    number = error.errno if isinstance(error, OSError) else None
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if number in _NO_DESCRIPTOR or (code == _CANTOPEN and not _more_can_be_opened()):
        return "this process may open no more files: raise its limit (ulimit -n)"
    longest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if longest != resource.RLIM_INFINITY and (number == errno.EFBIG or code in _NOT_WRITTEN):
        return f"this process may write no more than {longest:,} bytes of a file (ulimit -f)"
    return None


def _more_can_be_opened() -> bool:
    opened: list[int] = []
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC
        opened.extend(os.open(os.devnull, flags) for _ in range(_FILES_OF_SQLITE))
    except OSError as error:
        return error.errno not in _NO_DESCRIPTOR
    finally:
        for fd in opened:
            os.close(fd)
    return True
