"""The images that `app_1.py` publishes: the bundled test images, or files and folders."""

from __future__ import annotations

import logging
import mimetypes
import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from pathlib import Path
from typing import NamedTuple

from DurableText.command_line import EXIT_USAGE
from MessageBroker.limits import MAX_MESSAGE_BYTES, cut
from Modelling.data_preparation import (
    IMAGE_SUFFIXES,
    bundled_test_images,
    counted_by_kind,
    encode_npy,
    visible_files,
)
from Pipeline.stop import ScriptError

logger = logging.getLogger(__name__)

NPY_TYPE = "application/x-npy"
UNKNOWN_TYPE = "application/octet-stream"


class SourceImage(NamedTuple):
    """One image to publish.

    Attributes:
        data: its bytes.
        subject: what it is.
        content_type: the media type of `data`.
        expected_label: the truth, if it is known.
        trouble: why there is nothing to publish; it counts as an image all the same.
    """

    data: bytes
    subject: str
    content_type: str
    expected_label: str | None = None
    trouble: str | None = None


class ImageSource:
    """Images in order, as often over as `count` asks for."""

    def __init__(self, paths: Sequence[Path], count: int | None) -> None:
        """Look at what is there.

        Args:
            paths: image files, and folders to search; none for the bundled test images.
            count: how many images; None for each once.

        Raises:
            ScriptError: a path is missing, or holds no image.
        """
        self._images: _Files | _Bundled = _Files(paths) if paths else _Bundled()
        self._count = count if count is not None else len(self._images)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[SourceImage]:
        over_and_over = chain.from_iterable(repeat(self._images))
        return islice(over_and_over, self._count)


class _Bundled:
    """The bundled test images, each once."""

    def __init__(self) -> None:
        self._images, self._labels = bundled_test_images()

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[SourceImage]:
        for i, (image, label) in enumerate(zip(self._images, self._labels, strict=True)):
            yield SourceImage(encode_npy(image), f"mnist-test/{i}", NPY_TYPE, str(label))


class _Files:
    """Files, each once, read when they are due."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [file for path in paths for file in _image_files(path)]
        if not self._files:
            raise ScriptError(
                f"no images in {', '.join(map(str, paths))}: the suffixes "
                f"{' '.join(sorted(IMAGE_SUFFIXES))} are searched for",
                EXIT_USAGE,
            )

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[SourceImage]:
        return (_read(path, subject) for path, subject in self._files)


def _read(path: Path, subject: str) -> SourceImage:
    if path.suffix.lower() == ".npy":
        content_type = NPY_TYPE
    else:
        content_type = mimetypes.guess_type(path.name)[0] or UNKNOWN_TYPE
    data, trouble = b"", None
    try:
        size = path.stat().st_size
        if size > MAX_MESSAGE_BYTES:  # told before gigabytes are read
            trouble = f"{size:,} bytes are more than the {MAX_MESSAGE_BYTES:,} of a message"
        else:
            data = path.read_bytes()
    except OSError as error:  # it vanished, or may not be read: the others are there still
        trouble = f"it cannot be read: {error.strerror or error}"
    return SourceImage(data, subject, content_type, trouble=trouble)


def subject_of(name: str) -> str:
    """Make a file's name into one that every broker takes as an attribute.

    Names are bytes to the system: those that are not UTF-8 are written in hex, and what is too
    long (a path may have 4,096 bytes) is cut at its end.
    """
    return cut(os.fsencode(name).decode("utf-8", "backslashreplace"))


def _image_files(path: Path) -> list[tuple[Path, str]]:
    """Return the files of an argument, each with its subject."""
    if path.is_file():
        return [(path, subject_of(path.name))]
    if not path.is_dir():
        raise ScriptError(f"there is no file or folder {str(path)!r}", EXIT_USAGE)
    files = visible_files(path)
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    skipped = [file for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]
    if skipped:
        kinds = counted_by_kind(skipped)
        logger.info("%s: skipped %d files that are no images: %s", path, len(skipped), kinds)
    return [(file, subject_of(file.relative_to(path).as_posix())) for file in images]
