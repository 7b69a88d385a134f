"""The lists of what is installed agree with each other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from DurableText.installation import NAME, __version__
from DurableText.installation.extras import EXTRA_OF

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What the user's list has beside the base: it trains, and reaches both brokers.
OF_THE_USERS_LIST = ("kafka", "pubsub", "training", "page")


def pins_of(name: str) -> dict[str, Requirement]:
    """Read a requirements file, and those that it names."""
    pins: dict[str, Requirement] = {}
    for line in (ROOT / name).read_text().splitlines():
        text = line.partition(" #")[0].strip()
        if text.startswith("-r "):
            pins |= pins_of(text.removeprefix("-r "))
        elif text and not text.startswith("#"):
            requirement = Requirement(text)
            pins[canonical(requirement.name)] = requirement
    return pins


def canonical(name: str) -> str:
    """Write a name as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(*extras: str) -> dict[str, Requirement]:
    """Return what pyproject.toml asks for."""
    texts = [*PROJECT["dependencies"], *(each for extra in extras for each in EXTRAS[extra])]
    return {canonical(each.name): each for each in map(Requirement, texts)}


def test_the_users_list_pins_what_the_package_needs_and_nothing_else() -> None:
    assert pins_of("requirements.txt").keys() == wanted(*OF_THE_USERS_LIST).keys()


def test_the_developers_list_holds_all_extras() -> None:
    assert wanted(*EXTRAS).keys() <= pins_of("requirements-dev.txt").keys()


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_each_pin_is_one_that_the_package_takes(extra: str) -> None:
    pins = pins_of("requirements-dev.txt")
    for name, requirement in (wanted(extra) if extra else wanted()).items():
        pinned = next(iter(pins[name].specifier)).version
        assert requirement.specifier.contains(pinned, prereleases=True), f"{requirement}: {pinned}"


def test_every_extra_that_an_error_names_is_there() -> None:
    assert {*EXTRA_OF.values()} == {*EXTRAS}


def locked(name: str) -> dict[str, set[str]]:
    """Return the versions of each package in a lock file; it may differ by Python."""
    versions: dict[str, set[str]] = {}
    for entry in re.findall(r"^(\S+)==(\S+)(?=.*\\$)", (ROOT / name).read_text(), re.MULTILINE):
        versions.setdefault(canonical(entry[0]), set()).add(entry[1])
    return versions


def test_the_lock_files_hold_the_pins_and_a_hash_for_each() -> None:
    serving, everything = locked("requirements.lock"), locked("requirements-dev.lock")
    for name, requirement in pins_of("requirements-dev.txt").items():
        pinned = next(iter(requirement.specifier)).version
        assert pinned in everything[name], f"{name}: run `make lock`"
        assert pinned in serving.get(name, {pinned}), f"{name}: run `make lock`"
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert len(re.findall(r"^\S+==", text, re.MULTILINE)) == len(
            re.findall(r"^\S+==.*\\\n    --hash=", text, re.MULTILINE)
        )


def test_what_serves_is_locked_without_tensorflow() -> None:
    serving = locked("requirements.lock")
    assert wanted("kafka", "pubsub", "redis", "postgres", "page", "tracing", "heic").keys() <= (
        serving.keys()
    )
    assert not {"tensorflow", "keras"} & serving.keys()


def make_the_environment(
    folder: Path, *options: str, path: str = "", **interpreters: str
) -> subprocess.CompletedProcess[str]:
    """Run make where these are the only interpreters, each a shell's script by its name."""
    make = shutil.which("make")
    assert make is not None
    for name, script in interpreters.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        [make, *options, "-f", ROOT / "Makefile", ".venv/bin/python"],
        cwd=folder,
        env={"PATH": f"{folder}:{path}"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "unsuitable",
    [
        "exit 1",  # too old
        # As Debian's without python3-venv: what it would leave has no pip, and is in the way.
        f'PYTHONPATH=hidden exec {sys.executable} "$@"',
    ],
)
def test_make_takes_the_first_interpreter_that_makes_environments_and_is_new_enough(
    unsuitable: str, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden" / "ensurepip.py"
    hidden.parent.mkdir()
    hidden.write_text("raise ModuleNotFoundError(__name__)\n")
    (tmp_path / "python3.12").symlink_to(sys.executable)
    done = make_the_environment(tmp_path, "-n", python3=unsuitable)
    assert "python3.12 -m venv .venv" in done.stdout


def test_an_environment_that_was_not_made_whole_is_not_left_behind(tmp_path: Path) -> None:
    breaks_off = (
        "[ $1 = -c ] && exit 0; mkdir -p .venv/bin && ln -s /bin/sh .venv/bin/python; exit 1"
    )
    done = make_the_environment(tmp_path, path=os.defpath, python3=breaks_off)
    assert done.returncode == 2
    assert not (tmp_path / ".venv").exists()


def test_make_says_what_to_install_where_no_interpreter_is_new_enough(tmp_path: Path) -> None:
    done = make_the_environment(tmp_path)
    assert done.returncode == 2
    assert "Python 3.11 to 3.14 with its module venv is needed" in done.stdout


def test_the_bill_of_materials_says_of_which_version_it_is(tmp_path: Path) -> None:
    make = shutil.which("make")
    assert make is not None
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("DurableText", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = tmp_path / ".venv"
    environment.mkdir()
    (environment / ".development").touch()
    (environment / "bin").symlink_to(Path(sys.executable).parent)
    (tmp_path / "requirements-dev.lock").touch()
    os.utime(tmp_path / "requirements-dev.lock", (0, 0))
    subprocess.run([make, "-f", ROOT / "Makefile", "sbom"], cwd=tmp_path, check=True)
    told = json.loads((tmp_path / "sbom.json").read_text())["metadata"]["component"]
    assert (told["name"], told["version"]) == (NAME, __version__)
