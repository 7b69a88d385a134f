"""How things are put into words for a person: numbers, durations, and texts of other programs."""

from __future__ import annotations


def printable(text: str) -> str:
    """Write each character that is not printable as Python's `ascii` does: by its code.

    Names of files, labels, ids and errors of brokers come from other programs: a line break in
    them must not forge a line of a log, nor an escape sequence reach the terminal of whoever reads.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


# Of a name, an id or an error that another program chose a person sees so many characters: a reason
# has a few words, a file's name may have 255 bytes.
MAX_SHOWN = 500
# Of a whole line.
MAX_LINE = 5000


def brief(text: str, longest: int = MAX_SHOWN) -> str:
    """Write a text of another program for a person: printable, and only its beginning if long."""
    if len(text) <= longest:
        return printable(text)
    return f"{printable(text[:longest])}… ({len(text):,} characters)"


def in_lines(*texts: str) -> str:
    """Write lines for a person, each of them bounded."""
    return "\n".join(brief(line, MAX_LINE) for text in texts for line in text.split("\n"))


def counted(number: int, noun: str) -> str:
    """Say how many of something there are: "1 image", "2,000 images"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def rate_in_words(per_second: float, of: str = "") -> str:
    """Say how many (" results") a second; below ten with what stands behind the point."""
    number = f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.2g}"
    return f"{number}{of}/s"


def duration_in_words(seconds: float) -> str:
    """Say a duration in the unit that fits it."""
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
