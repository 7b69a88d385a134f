"""The errors of this package. Their text is one line that says what is wrong and what to do."""

from DurableText.program.wording import printable

# Characters of another library's error text in ours: it may quote what a stranger sent.
LONGEST_REASON = 200


def refusal_of(error: Exception) -> str:
    """Say what is wrong: of the system, with which file, and why."""
    if isinstance(error, OSError) and error.filename is not None:
        return printable(f"{error.filename} cannot be used: {error.strerror}")
    return str(error)


def shortened(error: BaseException | str, length: int = LONGEST_REASON) -> str:
    """Make the first line of an error's text one of bounded length, fit for a terminal."""
    try:
        text = str(error).strip() or repr(error)
    except BaseException:  # noqa: BLE001 - of somebody else's code, whose text is code, too
        text = f"{type(error).__name__} without a text"
    line = printable(text.splitlines()[0])
    return line if len(line) <= length else f"{line[: length - 1]}…"


# The reason of a picture that was given up.
TOOK_TOO_LONG = "took too long"

UNDECODABLE = "undecodable image"


class ImageError(ValueError):
    """Raised when bytes are no image that can be classified.

    The text is the reason and the detail, cut to 200 characters: it may quote the bytes, and goes
    into a header.

    Attributes:
        reason: The same for the same fault, whatever was sent: many alike can be counted.
        detail: What it was this time: sizes, numbers, another library's words; may be empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = shortened(reason)
        self.detail = shortened(detail) if detail else ""
        super().__init__(shortened(f"{reason}: {detail}" if detail else reason))

    @property
    def kind(self) -> str:
        """What such faults are gathered under: few words, the same for many."""
        return TOOK_TOO_LONG if self.reason == TOOK_TOO_LONG else UNDECODABLE


class PreparationStoppedError(Exception):
    """Raised when items are given up because nobody waits for them any more."""


class CheckpointError(Exception):
    """Raised when a checkpoint cannot be used: missing, damaged, unsafe, or not an image model."""


class UnpredictableError(Exception):
    """Raised when a model's answer to an image says nothing: NaN, infinity."""
