"""The suite's own rules."""

from __future__ import annotations

import shutil

import pytest

from tests.brokers.harness import BROKERS
from tests.conformance.behaviours import COMMAND, DOCUMENT, SUITES, Suite, read_groups, render

each_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.title)


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), f"run `{COMMAND}`"


@each_suite
def test_every_file_of_behaviours_is_listed(suite: Suite) -> None:
    others = {"test_the_list.py", "test_chaos.py"}
    assert {path.name for path in suite.folder.glob("test_*.py")} - others == set(suite.files)


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
