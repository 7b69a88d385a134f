"""Who may know whom: a package imports only what stands below it, and no two import each other."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "MessageBroker",
    "DurableText",
    "Queue",
    "DB",
    "Modelling",
    "Pipeline",
}

# What a place may import of the project, beside itself. The longest name that fits counts.
MAY_IMPORT: dict[str, set[str]] = {
    # Where things are and how to get what is missing: all may know it, it knows nobody.
    "DurableText.installation": set(),
    "MessageBroker": {"MessageBroker"},
    "MessageBroker.core": {"MessageBroker"},
    "MessageBroker.kafka": {"MessageBroker", "MessageBroker.core"},
    "MessageBroker.google_pubsub": {"MessageBroker", "MessageBroker.core"},
    "MessageBroker.local": {"MessageBroker", "MessageBroker.core"},
    "MessageBroker.kafka_handler": {"MessageBroker", "MessageBroker.core", "MessageBroker.kafka"},
    "MessageBroker.google_pubsub_handler": {
        "MessageBroker",
        "MessageBroker.core",
        "MessageBroker.google_pubsub",
    },
    "MessageBroker.local_handler": {"MessageBroker", "MessageBroker.core", "MessageBroker.local"},
    "MessageBroker.__init__": {
        "MessageBroker",
        "MessageBroker.message_broker_factory",
        "MessageBroker.registry",
    },
    "MessageBroker.__main__": {
        "MessageBroker",
        "MessageBroker.core",
        "MessageBroker.dead_letters",
        "MessageBroker.original_message",
        "MessageBroker.message_broker_factory",
        "DurableText",
    },
    "MessageBroker.dead_letters": {
        "MessageBroker",
        "MessageBroker.core",
        "MessageBroker.original_message",
    },
    "MessageBroker.original_message": {"MessageBroker", "MessageBroker.core"},
    # The factory names the handlers as text: it imports the one that is wanted.
    "MessageBroker.message_broker_factory": {
        "MessageBroker",
        "MessageBroker.core",
        "MessageBroker.registry",
    },
    "MessageBroker.registry": {"MessageBroker", "MessageBroker.core"},
    # It makes brokers as an application does, and knows none of them.
    "MessageBroker.conformance": {
        "MessageBroker",
        "MessageBroker.core",
        "MessageBroker.message_broker_factory",
        "MessageBroker.registry",
    },
    # What every program does, and how files are handled: below all that is durable.
    "DurableText.program": set(),
    "DurableText.files": set(),
    "DurableText": set(),
    "DurableText.sqlite_copy": {"DurableText"},
    "Queue": {"DurableText"},
    # The factory imports the engine that is wanted; no engine knows another.
    "Queue.queue_factory": {"DurableText", "Queue", "Queue.text", "Queue.redis"},
    "Queue.__init__": {"Queue", "Queue.queue_factory", "Queue.text", "DurableText"},
    "Queue.__main__": {"DurableText", "Queue", "Queue.queue_factory"},
    "Queue.text": {"DurableText", "Queue"},
    "Queue.redis": {"DurableText", "Queue"},
    "DB": {"DurableText"},
    # The factory imports the engine that is wanted; no engine knows another.
    "DB.database_factory": {"DurableText", "DB", "DB.text", "DB.sqlite", "DB.postgres"},
    "DB.__init__": {"DB", "DB.database_factory"},
    "DB.__main__": {"DurableText", "DB", "DB.database_factory"},
    "DB.text": {"DurableText", "DB"},
    "DB.sqlite": {"DurableText", "DB"},
    "DB.postgres": {"DurableText", "DB"},
    "Modelling": set(),
    # It tells what all of them say, and is run to write documents only.
    "Pipeline.contract": {
        "MessageBroker",
        "MessageBroker.core",
        "MessageBroker.google_pubsub",
        "MessageBroker.kafka",
        "Modelling",
        "Pipeline",
    },
    # It copies the embedded broker's files, which no interface of a broker tells of, and asks a
    # checkpoint for its own.
    "Pipeline.backup": {
        "MessageBroker",
        "MessageBroker.local",
        "MessageBroker.local_handler",
        "MessageBroker.message_broker_factory",
        "Modelling",
        "DurableText",
        "Queue",
        "DB",
        "Pipeline",
    },
    "Pipeline": {
        "MessageBroker",
        "MessageBroker.core",
        "MessageBroker.dead_letters",
        "MessageBroker.original_message",
        "MessageBroker.message_broker_factory",
        "DurableText",
        "Queue",
        "DB",
        "Modelling",
    },
}

# What all know: what is installed where, what a program does and says, how files are opened, reach
# the disk and are copied.
ALL_MAY_IMPORT = {
    "DurableText.installation",
    "DurableText.program",
    "DurableText.files",
    "DurableText.sqlite_copy",
}

# The folders in which a client library is imported, and nowhere else.
CLIENTS = {
    "tensorflow": {"Modelling"},
    "keras": {"Modelling"},
    "ai_edge_litert": {"Modelling"},
    "onnx": {"Modelling"},
    "onnxruntime": {"Modelling"},
    "confluent_kafka": {"MessageBroker.kafka"},
    "google": {"MessageBroker.google_pubsub"},
    "grpc": {"MessageBroker.google_pubsub"},
    "sqlite3": {"MessageBroker.local", "DB.text", "DB.sqlite", "DurableText.sqlite_copy"},
    "psycopg": {"DB.postgres"},
    "pytest": {"MessageBroker.conformance"},
    "redis": {"Queue.redis"},
    "starlette": {"Pipeline.page"},
    "uvicorn": {"Pipeline.page"},
}


def modules() -> dict[str, Path]:
    """Map the dotted name of each module to its file."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


@functools.cache  # each client's test asks for those of all files
def imports_of(path: Path, *, when_loaded: bool = False) -> frozenset[str]:
    """Return the modules that a file imports; `when_loaded`: only those of its top level."""
    tree = ast.parse(path.read_text())
    return frozenset(_imports_among(tree.body if when_loaded else ast.walk(tree)))


def _imports_among(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def place_of(module: str, places: set[str]) -> str | None:
    """Return the longest of `places` in which a module lies."""
    fitting = [place for place in places if f"{module}.".startswith(f"{place}.")]
    return max(fitting, key=len, default=None)


def folder_of(module: str) -> str:
    """Return the package in which a module lies."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    is_package = MODULES[module].name == "__init__.py"
    place = place_of(f"{module}.__init__" if is_package else module, set(MAY_IMPORT))
    assert place is not None
    allowed = MAY_IMPORT[place] | ALL_MAY_IMPORT
    places = set(MAY_IMPORT)
    wrong = {
        name
        for name in imports_of(MODULES[module])
        if name in MODULES and place_of(name, places) not in allowed | {place}
    }
    assert not wrong


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_a_client_library_is_imported_in_its_own_folder_only(client: str) -> None:
    importers = {
        place_of(module, CLIENTS[client]) or module
        for module, path in MODULES.items()
        if client in {name.split(".")[0] for name in imports_of(path)}
    }
    assert importers == CLIENTS[client]


def test_no_two_folders_import_each_other() -> None:
    edges: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for name in imports_of(path):
            if name in MODULES and folder_of(name) != folder_of(module):
                edges.setdefault(folder_of(module), set()).add(folder_of(name))
    both = {
        (a, b)
        for a, seen in edges.items()
        for b in seen
        # A folder and one inside it are one room: the interface lies beside its engines' folders.
        if a in edges.get(b, set()) and not b.startswith(f"{a}.") and not a.startswith(f"{b}.")
    }
    assert not both


def test_no_module_is_imported_by_what_it_imports() -> None:
    edges = {
        module: {name for name in imports_of(path, when_loaded=True) if name in MODULES}
        for module, path in MODULES.items()
    }
    circles = set()
    for start in edges:
        seen, ahead = set(), list(edges[start])
        while ahead:
            module = ahead.pop()
            if module == start:
                circles.add(start)
                break
            if module not in seen:
                seen.add(module)
                ahead.extend(edges[module])
    assert not circles
