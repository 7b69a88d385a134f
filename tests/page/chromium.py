"""Debian's Chromium for the tests: found, in CI installed, else the test is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess

from tests.servers import skip_if_missing

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NoChromiumError(Exception):
    """Raised when there is no browser."""


def find() -> str:
    """The path of a browser; CI installs one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("CI"):
        _install()
        found = shutil.which(NAMES[0])
    if found is None:
        raise NoChromiumError("no browser: `apt-get install chromium` brings one")
    return found


def find_or_skip() -> str:
    """The path of a browser; on a user's machine without one the test is skipped."""
    skip_if_missing(find, NoChromiumError)
    return find()


def _install() -> None:
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", NAMES[0]]):
        subprocess.run(command, check=True, env=quietly, stdout=subprocess.DEVNULL)
