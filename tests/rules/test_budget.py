"""The steps that `benchmarks.budget` counts are functions that the scripts still call."""

from __future__ import annotations

import importlib
import operator

import pytest

from benchmarks.budget import STEPS


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(module, name, id=f"{script}: {step}")
        for script, steps in STEPS.items()
        for step, module, name in steps
    ],
)
def test_what_is_counted_is_defined_where_it_is_looked_for(module: str, name: str) -> None:
    *classes, function = name.split(".")
    owner = importlib.import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    # Counting replaces it there: a function that is only inherited would be counted for all heirs.
    assert callable(operator.attrgetter(function)(owner))
    assert function in vars(owner)
