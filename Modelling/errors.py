"""The two errors of this package. Their text is one line that says what is wrong and what to do."""

LONGEST_REASON = 200
"""Characters of another library's error text in ours: it may quote what a stranger sent."""


def shortened(error: BaseException | str) -> str:
    """The first line of an error's text, of bounded length and fit for a terminal and a header."""
    text = str(error).strip() or repr(error)
    line = "".join(each if each.isprintable() else " " for each in text.splitlines()[0])
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"


class ImageError(ValueError):
    """Raised when bytes are no image that can be classified; the text is the reason.

    The text is cut to 200 characters: it may quote the bytes, and goes into a header.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(shortened(reason))


class CheckpointError(Exception):
    """Raised when a checkpoint cannot be used: missing, damaged, unsafe, or not an image model."""
