"""The suite's own rules."""

from __future__ import annotations

import shutil

import pytest

from tests.brokers.harness import BROKERS
from tests.conformance.behaviours import COMMAND, DOCUMENT, FILES, FOLDER, read_groups, render


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), f"run `{COMMAND}`"


def test_every_file_of_behaviours_is_listed() -> None:
    others = {"test_the_list.py", "test_chaos.py"}
    assert {path.name for path in FOLDER.glob("test_*.py")} - others == set(FILES)


def test_every_behaviour_takes_a_handler_and_nothing_else() -> None:
    behaviours = [each for group in read_groups() for each in group.behaviours]

    assert len(behaviours) >= 40
    assert [each.test for each in behaviours if each.arguments != ("handler",)] == []
    assert [each.test for each in behaviours if not each.statement.endswith(".")] == []


def test_nothing_is_skipped_or_expected_to_fail() -> None:
    for name in FILES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert "pytest.skip" not in text
        assert "pytest.mark" not in text
        assert "handler.name" not in text, "a behaviour does not ask which broker it is"


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
