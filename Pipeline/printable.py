"""Texts from elsewhere, made fit for a terminal.

Names of files, labels, ids and errors of brokers come from other programs: a line break in them
must not forge a line of a log, nor an escape sequence reach the terminal of whoever reads it.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Write each character that is not printable as Python's `ascii` does: by its code."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
