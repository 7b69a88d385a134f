"""The standard streams of a program: all three are there, and its output may come to nothing.

A program may be started without some of them (cron, `2>&-`). The kernel gives the lowest free
number to whatever is opened next. Where number 2 is free, that is a log, a socket or a database,
and the next line that a native library writes to standard error lands in it. So what runs as a
program of its own prepares them before all else.

And they may go while it runs: a reader (`| head`), a terminal that is closed, a disk that is full.
What then is left in a buffer Python cannot write at its end either, and makes 120 of whatever code
the program ends with. So nothing is left: what cannot be written is dropped.

And they are the whole process's: code of others that closes them, as it would close streams of its
own, or takes them apart to put other texts over them, only flushes them. Where such code may close
their numbers, ours are written under others (`set_apart`).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import io
import os
import sys
from typing import Any

EXIT_FAILED = 1

_MODES = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def prepare() -> None:
    """Open to nowhere which of the file descriptors 0 to 2 are closed, for children as well.

    And let standard output and standard error be pipes whose reader goes (`| head`), or a terminal
    that is closed: what nobody reads any more is dropped, and the program ends with the code that
    it ends with anyway. Where standard output cannot be written for another reason (a full disk
    behind `>`), that is told in a line and the program ends with 1. Of standard error, lines are
    lost until there is room again.
    """
    for descriptor, (name, mode) in _MODES.items():
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            assert opened == descriptor, "the kernel gives the lowest number that is free"
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:  # what Python made of a closed one
            _set(name, os.fdopen(descriptor, mode, errors="replace", closefd=False))
    for name, kind in (("stdout", _Output), ("stderr", _Messages)):
        given = getattr(sys, name)
        if isinstance(given, io.TextIOWrapper):
            _set(name, _text_over(kind(given.fileno()), given))
    atexit.register(_last_words)  # the first that is registered is the last that runs


def _text_over(stream: _Stream, given: io.TextIOWrapper) -> io.TextIOWrapper:
    return _Text(
        # With `python -u` nothing waits in a buffer.
        stream if given.write_through else _Buffer(stream),
        given.encoding,
        given.errors,
        line_buffering=given.line_buffering,
        write_through=given.write_through,
    )


def _last_words() -> None:
    """Write what is left; end with 1 if anything could not be written."""
    with contextlib.suppress(ValueError):  # another one in its place, that was closed
        sys.stdout.flush()
    output = _stream_of(sys.stdout)
    if output is not None and output.failed:
        sys.stderr.flush()
        os._exit(EXIT_FAILED)


# The lowest number of a copy: not one that a program expects something under.
_LOWEST_COPY = 10

# The descriptors 0 to 2, under other numbers; made once.
_copies: dict[int, int] = {}


def set_apart() -> None:
    """Write under numbers of our own from now on, and remember what 0 to 2 are; see `reopen`.

    The kernel gives a closed number to whatever is opened next, in any thread: a log line of ours
    would land in a database.
    """
    for number in _MODES:
        if number not in _copies:
            with contextlib.suppress(OSError):
                _copies[number] = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _LOWEST_COPY)
    for text in (sys.stdout, sys.stderr):
        stream = _stream_of(text)
        if stream is not None and stream.number in _copies:
            stream.write_under(_copies[stream.number])


def reopen() -> None:
    """Open those of 0 to 2 again that were closed since; what took their number is left alone."""
    for number, copy in tuple(_copies.items()):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            opened = fcntl.fcntl(copy, fcntl.F_DUPFD, number)
            if opened != number:  # another thread was quicker
                os.close(opened)


def set_back() -> None:
    """Write under 0 to 2 again: somebody has closed the numbers that `set_apart` took."""
    for text in (sys.__stdout__, sys.__stderr__):
        stream = _stream_of(text)
        if stream is not None:
            stream.write_under(stream.number)
    _copies.clear()


def reader_is_gone() -> bool:
    """Tell whether nobody sees standard output any more: what has no end may end."""
    output = _stream_of(sys.stdout)
    return output is not None and output.reader_is_gone


class _Text(io.TextIOWrapper):
    """Text over a standard stream: it stays open."""

    def close(self) -> None:
        """Write what is left."""
        self.flush()

    def detach(self) -> Any:
        """Return the buffer, for another text over it; this one goes on."""
        self.flush()
        return self.buffer


class _Buffer(io.BufferedWriter):
    """The buffer between: it stays open."""

    def close(self) -> None:
        """Write what is left."""
        self.flush()

    def detach(self) -> Any:
        """Return the stream, for another buffer over it; this one goes on."""
        self.flush()
        return self.raw


class _Stream(io.FileIO):
    """A stream whose reader, terminal or disk may go: then its writes come to nothing."""

    reader_is_gone = False
    failed = False

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.number = descriptor
        self._was_terminal = self.isatty()

    def write_under(self, descriptor: int) -> None:
        """Go on under another number of the same file."""
        super().__init__(descriptor, "wb", closefd=False)

    def close(self) -> None:
        """Stay open: it is the process's."""

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        """Write all; drop what nobody reads or what cannot be written."""
        left = memoryview(data)
        try:
            while left:
                written = super().write(left)
                if written is None:  # it would block, and shall not
                    return len(data) - len(left) or None
                left = left[written:]
        except OSError as error:
            # One that was closed is a terminal no more.
            terminal_is_gone = self._was_terminal and not self.isatty()
            if terminal_is_gone or isinstance(error, BrokenPipeError):
                self._end()
            else:
                self.fail(error)
        return len(data)

    def fail(self, error: OSError) -> None:
        """Go on though something could not be written."""
        raise NotImplementedError

    def _end(self) -> None:
        """Let all that comes go to nowhere, that of native libraries and of children as well."""
        self.reader_is_gone = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if self.fileno() != self.number and _same_file(self.fileno(), self.number):
            os.dup2(nowhere, self.number)
        os.dup2(nowhere, self.fileno(), inheritable=self.fileno() == self.number)
        os.close(nowhere)


class _Output(_Stream):
    """Standard output: what it lacks is missed, so there is no more of it after an error."""

    def fail(self, error: OSError) -> None:
        """Say so, and write nothing more."""
        self.failed = True
        with contextlib.suppress(OSError):
            sys.stderr.write(f"the output cannot be written: {error.strerror}\n")
        self._end()


class _Messages(_Stream):
    """Standard error: what is said once there is room again counts as well."""

    _cut = False  # half a line may stand at the end

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        """See `_Stream.write`; the first line after an error begins as one."""
        if self._cut:
            self._cut = False
            super().write(b"\n")
        return super().write(data)

    def fail(self, error: OSError) -> None:  # noqa: ARG002 - nobody to tell it to
        """Lose this."""
        self._cut = True


def _same_file(one: int, other: int) -> bool:
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False


def _stream_of(text: Any) -> _Stream | None:
    """Return what is below one of our texts; None if somebody has put another in its place."""
    buffer = getattr(text, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, _Stream) else None


def _set(name: str, stream: Any) -> None:
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)
