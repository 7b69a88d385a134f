"""Who may know whom: a package imports only what stands below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"MessageBroker", "Queue", "DB", "Modelling", "Pipeline"}
MAY_IMPORT: dict[str, set[str]] = {
    "MessageBroker": set(),
    "Queue": set(),
    "DB": {"Queue"},  # the layer for system calls under both
    "Modelling": set(),
    "Pipeline": PACKAGES,
}
CLIENTS = {
    "tensorflow": "Modelling",
    "keras": "Modelling",
    "confluent_kafka": "MessageBroker",
    "google": "MessageBroker",
    "sqlite3": "MessageBroker or DB",
}


def imports_of(package: str) -> Iterator[tuple[str, str]]:
    """Yield each file of a package with the first part of each name that it imports."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield path.name, alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path.name, node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    wrong = {(file, name) for file, name in imports_of(package) if name in PACKAGES - allowed}
    assert not wrong


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_a_client_library_is_known_to_one_package_only(client: str) -> None:
    importers = {
        package for package in PACKAGES if client in dict(map(reversed, imports_of(package)))
    }
    assert importers == set(CLIENTS[client].split(" or "))
