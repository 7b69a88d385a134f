"""The lists of what is installed agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from Installation.extras import EXTRA_OF

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What the user's list has beside the base: it trains, and reaches both brokers.
OF_THE_USERS_LIST = ("kafka", "pubsub", "training")


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
