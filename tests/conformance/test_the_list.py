"""The suite's own rules."""

from __future__ import annotations

import importlib
import shutil

import pytest

from MessageBroker.conformance import PARTS
from MessageBroker.conformance import suite as the_suite
from tests.brokers.harness import BROKERS
from tests.conformance import behaviours
from tests.conformance.behaviours import COMMAND, DOCUMENT, SUITES, Suite, read_groups, render

each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.title)


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), f"run `{COMMAND}`"


@each_suite
def test_every_file_of_behaviours_is_listed(suite: Suite) -> None:
    states_behaviours = {
        path.name for path in suite.folder.glob("*.py") if "\ndef test_" in path.read_text()
    }
    assert states_behaviours - {"chaos.py"} == set(suite.files)


@each_suite
def test_every_behaviour_takes_an_engine_and_nothing_else(suite: Suite) -> None:
    behaviours = [each for group in read_groups(suite) for each in group.behaviours]

    assert len(behaviours) >= 40
    assert [each.test for each in behaviours if each.arguments != (suite.fixture,)] == []
    assert [each.test for each in behaviours if not each.statement.endswith(".")] == []


@each_suite
def test_nothing_is_skipped_or_expected_to_fail(suite: Suite) -> None:
    for name in suite.files:
        text = (suite.folder / name).read_text(encoding="utf-8")
        assert "pytest.skip" not in text
        assert "pytest.mark" not in text
        assert f"{suite.fixture}.name" not in text, "a behaviour does not ask which engine it is"


def test_the_suite_has_all_its_parts_and_so_have_the_tests_of_this_project() -> None:
    ours = [importlib.import_module(f"tests.conformance.test_{part}") for part in PARTS]
    here = {name for module in ours for name in vars(module) if name.startswith("test_")}
    imported = {name for name in vars(the_suite) if name.startswith("test_")}
    assert imported == here
    stated = [each.test for group in read_groups(behaviours.BROKERS) for each in group.behaviours]
    assert len(set(stated)) == len(stated), "a name that is there twice would be run once"
    assert imported == {*stated, "test_nothing_is_lost_in_chaos"}


@pytest.mark.parametrize("name", ["kafka", "pubsub"])
def test_a_missing_broker_is_skipped_by_a_person_and_fails_in_ci(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _tool: None)  # no Java

    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"install|apt"):
        BROKERS[name]().start()

    monkeypatch.setenv("CI", "true")
    with pytest.raises((pytest.fail.Exception, Exception), match=r"install|apt") as failure:
        BROKERS[name]().start()
    assert not isinstance(failure.value, pytest.skip.Exception)
