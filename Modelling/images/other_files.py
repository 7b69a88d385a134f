"""What bytes are that are no picture, by how they begin, and what to send instead.

It tells a person, in the reason of a dead letter, what went wrong on the way: nothing is decoded by
it.
"""

from __future__ import annotations

AS_PIXELS = "send it as PNG or JPEG"
BYTES = "send the bytes themselves"
AS_TEXT = f"it was sent as text, which changes its bytes: {BYTES}"

# How they begin, in lower case, what they are, and what to do.
BEGINS = (
    (b"data:", "a data URL", BYTES),
    # `.npy`, PNG, JPEG, GIF, WebP and TIFF.
    *(
        (each, "base64", BYTES)
        for each in (b"k05vtvbz", b"ivborw0kggo", b"/9j/", b"r0lgod", b"uklgr", b"sukqa", b"tu0ak")
    ),
    (b"\x89png", "a PNG whose line ends were changed", AS_TEXT),
    (b"\xef\xbf\xbdpng", "what was a PNG", AS_TEXT),
    (b"\xc2\x89png", "what was a PNG", AS_TEXT),
    (b"\xef\xbf\xbdnumpy", "what was a .npy file", AS_TEXT),
    (b"\xc2\x93numpy", "what was a .npy file", AS_TEXT),
    (b"\xef\xbf\xbd\xef\xbf\xbd", "what was a JPEG", AS_TEXT),
    (b"\xc3\xbf\xc3\x98", "what was a JPEG", AS_TEXT),
    (b"%pdf", "a PDF", AS_PIXELS),
    (b"%!ps", "PostScript", AS_PIXELS),
    (b"<svg", "an SVG, a drawing without pixels", AS_PIXELS),
    (b"<", "a page of the web, or XML", "send the picture that it shows"),
    (b"{", "JSON", "send the picture itself, as the message's body"),
    (b"[", "JSON", "send an array as .npy"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"pk\x03\x04", "a zip archive, as .npz is", "send each picture by itself"),
    *((bytes((0x70, each)), "a PNM", AS_PIXELS) for each in b"1234567"),
    (b"8bps", "Photoshop's", AS_PIXELS),
    (b"\0\0\1\0", "an icon", AS_PIXELS),
    (b"\xff\x0a", "JPEG XL", AS_PIXELS),
    (b"\0\0\0\x0cjxl ", "JPEG XL", AS_PIXELS),
    (b"\x80", "a pickle, which is not loaded", "send an array as .npy"),
)

# Before a text.
MARK = b"\xef\xbb\xbf"

# As many as are looked at.
FIRST_BYTES = 32


def told(data: bytes) -> str:
    """Say how large it is, and what it is if that can be seen, and what to do."""
    first = bytes(data[:FIRST_BYTES]).removeprefix(MARK).lstrip().lower()
    size = f"{len(data):,} bytes"
    if first[4:8] == b"ftyp":
        return f"{size}; it begins as a video does, or a picture of a kind that is not read"
    for begins, what, advice in BEGINS:
        if first.startswith(begins):
            return f"{size}; by its first bytes it is {what}: {advice}"
    return size
