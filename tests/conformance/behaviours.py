"""The list of behaviours, read from the suite itself: the first line of each test's docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
DOCUMENT = FOLDER.parents[1] / "docs" / "behaviours.md"
COMMAND = "python -m tests.conformance"

# In the order in which a person wants to read them.
FILES = (
    "test_publishing.py",
    "test_consuming.py",
    "test_nacks_and_dead_letters.py",
    "test_ordering.py",
    "test_life_cycle.py",
    "test_failover.py",
    "test_outages.py",
    "test_limits.py",
)

INTRODUCTION = f"""\
# Behaviours

What every broker does, whichever stands behind the API. Each line is a test of
`tests/conformance`, which runs against the embedded broker, a real Apache Kafka and the real
Pub/Sub emulator: {{count}} behaviours, nothing skipped.

This list is made from the tests by `{COMMAND}`.
"""


@dataclass(frozen=True)
class Behaviour:
    """One test: what it states, and what it takes."""

    statement: str
    test: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """One file of tests."""

    title: str
    file: str
    behaviours: tuple[Behaviour, ...]


def read_groups() -> list[Group]:
    """Read all behaviours."""
    return [_read_group(FOLDER / name) for name in FILES]


def render() -> str:
    """Return the document."""
    groups = read_groups()
    count = sum(len(group.behaviours) for group in groups)
    parts = [INTRODUCTION.format(count=count)]
    for group in groups:
        parts.append(f"\n## {group.title}\n\n")
        parts += [f"- {each.statement}\n" for each in group.behaviours]
    return "".join(parts)


def _read_group(path: Path) -> Group:
    module = ast.parse(path.read_text(encoding="utf-8"))
    title = (ast.get_docstring(module) or "").splitlines()[0]
    return Group(title, path.name, tuple(_behaviours(module)))


def _behaviours(module: ast.Module) -> Iterator[Behaviour]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            statement = (ast.get_docstring(node) or "").partition("\n")[0]
            yield Behaviour(statement, node.name, tuple(arg.arg for arg in node.args.args))
