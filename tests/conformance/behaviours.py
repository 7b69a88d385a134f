"""The list of behaviours, read from the suite itself: the first line of each test's docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from MessageBroker import conformance

TESTS = Path(__file__).resolve().parents[1]
DOCUMENT = TESTS.parent / "docs" / "behaviours.md"
COMMAND = "python -m tests.conformance"

INTRODUCTION = f"""\
What is the same whichever engine stands behind a seam. Each line is a test that runs against every
engine, the real ones; nothing is skipped. This list is made from the tests by `{COMMAND}`.
"""


@dataclass(frozen=True)
class Suite:
    """The tests of one seam.

    Attributes:
        title: what the seam is called.
        introduction: what stands behind it; `{count}` is the number of behaviours.
        folder: where its tests are.
        fixture: what each test takes: one engine, and nothing else.
        files: in the order in which a person wants to read them.
    """

    title: str
    introduction: str
    folder: Path
    fixture: str
    files: tuple[str, ...]


BROKERS = Suite(
    "The broker",
    "`MessageBroker/conformance`, on the embedded broker, a real Apache Kafka and the real Pub/Sub "
    "emulator, and on any other by [a test module of its own](writing_a_handler.md): {count} "
    "behaviours.",
    Path(conformance.__file__).parent,
    "under_test",
    tuple(f"{part}.py" for part in conformance.PARTS if part != "chaos"),
)
DATABASES = Suite(
    "The DB",
    "`tests/db_conformance`, on the text file, SQLite and a real PostgreSQL: {count} behaviours.",
    TESTS / "db_conformance",
    "engine",
    (
        "test_inserting.py",
        "test_repetitions.py",
        "test_refusals.py",
        "test_writers.py",
        "test_trouble.py",
    ),
)
QUEUES = Suite(
    "The queue",
    "`tests/queue_conformance`, on the text file and a real Redis, there with one consumer and "
    "with several: {count} behaviours.",
    TESTS / "queue_conformance",
    "engine",
    (
        "test_putting.py",
        "test_taking.py",
        "test_processes.py",
        "test_queue_trouble.py",
        "test_looking.py",
    ),
)
SUITES = (BROKERS, QUEUES, DATABASES)


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


def read_groups(suite: Suite) -> list[Group]:
    """Read all behaviours of a suite."""
    return [_read_group(suite.folder / name) for name in suite.files]


def render() -> str:
    """Return the document."""
    parts = [f"# Behaviours\n\n{INTRODUCTION}"]
    for suite in SUITES:
        groups = read_groups(suite)
        count = sum(len(group.behaviours) for group in groups)
        parts.append(f"\n## {suite.title}\n\n{suite.introduction.format(count=count)}\n")
        for group in groups:
            parts.append(f"\n### {group.title}\n\n")
            parts += [f"- {each.statement}\n" for each in group.behaviours]
    return "".join(parts)


def _read_group(path: Path) -> Group:
    module = ast.parse(path.read_text(encoding="utf-8"))
    title = (ast.get_docstring(module) or "").splitlines()[0].removesuffix(".")
    return Group(title, path.name, tuple(_behaviours(module)))


def _behaviours(module: ast.Module) -> Iterator[Behaviour]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            statement = (ast.get_docstring(node) or "").partition("\n")[0]
            yield Behaviour(statement, node.name, tuple(arg.arg for arg in node.args.args))
