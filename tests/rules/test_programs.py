"""What every program of this project does before anything else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("app_1", "model_server_sub", "model_server_pub", "app_2")
PACKAGES = ("MessageBroker", "DurableText", "Queue", "DB", "Modelling", "Pipeline")
# A child of the model server, which gives it its three streams.
NO_PROGRAMS = {ROOT / "Modelling" / "images" / "decoding_worker.py"}
# Of the standard library, and nothing of it but what CPython has loaded already.
HARMLESS = {"__future__", "sys", "pathlib"}


def is_main(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "'__main__'" in ast.unparse(node.test)


PROGRAMS = [
    path
    for path in [
        *(ROOT / f"{script}.py" for script in SCRIPTS),
        *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))),
    ]
    if path not in NO_PROGRAMS and any(map(is_main, ast.parse(path.read_text()).body))
]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_program_makes_sure_of_its_streams_and_of_signals_before_it_imports_anything(
    path: Path,
) -> None:
    body = ast.parse(path.read_text()).body
    first = next(number for number, node in enumerate(body) if is_main(node))
    calls = [ast.unparse(node) for node in body[first].body if isinstance(node, ast.Expr)]  # type: ignore[attr-defined]

    assert calls[:1] == ["standard_streams.prepare()"]
    assert {"first_signals.break_off_quietly()", "first_signals.end_quietly()"} & set(calls)
    for node in body[:first]:
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= HARMLESS
        if isinstance(node, ast.ImportFrom):
            assert node.module in HARMLESS
