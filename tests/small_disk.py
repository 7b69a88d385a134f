"""A real file system of a given size, which can be filled to its last block."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, size: int, files: int = 0) -> Iterator[Path]:
    """Mount one of `size` bytes at `folder`; skip the test where there is no right to do so.

    Args:
        folder: where; made if it is missing.
        size: in bytes.
        files: how many files and folders it may have; 0 for any number.
    """
    folder.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files}", "tmpfs", str(folder)]
    if (
        mount is None
        or not sys.platform.startswith("linux")
        or os.geteuid() != 0
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("no right to mount a tmpfs: run the tests as root on Linux")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room; return the file that has to be removed."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))
    return ballast
