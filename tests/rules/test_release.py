"""The version stands in several files, and is the same in all of them."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import yaml

from DurableText.installation import __version__

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"^## (\S+)(?: - (\S+))?$", re.MULTILINE)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_newest_section_of_the_changelog_is_this_version_and_each_has_its_date() -> None:
    sections = SECTION.findall((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))

    assert sections[0] == ("Unreleased", "")
    versions = [version for version, _ in sections[1:]]
    assert versions[0] == __version__
    assert versions == sorted(set(versions), key=numbers, reverse=True)
    dates = [date.fromisoformat(each) for _, each in sections[1:]]
    assert dates == sorted(dates, reverse=True)


def test_the_images_of_kubernetes_have_the_version_as_their_tag() -> None:
    found = sorted((ROOT / "deploy" / "kubernetes").rglob("kustomization.yaml"))
    images = [
        image
        for path in found
        for image in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("images", [])
    ]
    assert images
    assert {image["newTag"] for image in images} == {__version__}


def test_whoever_follows_the_docs_builds_the_image_that_kubernetes_asks_for() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    assert set(re.findall(r"event-driven-model-serving:(\S+)", text)) == {__version__}
