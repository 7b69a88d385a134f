"""Nothing but `DurableText/storage.py`, by `syncing.py`, changes files.

SQLite alone keeps the disposable index.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("DurableText", "Queue", "DB")

CHANGING = {
    "fdatasync", "flock", "fsync", "ftruncate", "link", "lockf", "mkdir", "pwrite", "pwritev",
    "rename", "replace", "rmdir", "sendfile", "symlink", "touch", "truncate", "unlink", "write",
    "write_bytes", "write_text", "writev",
}  # fmt: skip

ALLOWED = {
    ("DB/text/index.py", "unlink"),  # SQLite's files, which may be lost
    ("DurableText/program/standard_streams.py", "write"),  # to standard output
    ("DurableText/lock.py", "flock"),  # a look at who holds a lock, for `status`
}

LAYER = ("storage", "_storage", "STORAGE")
"""What a call through the layer begins with."""


def changing_calls(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = getattr(owner, "attr", getattr(owner, "id", ""))
            if node.func.attr in CHANGING and name not in LAYER:
                yield node, name
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open":
            yield node, "open"


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for package in ("DurableText", "Queue", "DB")
        for path in (ROOT / package).rglob("*.py")
    ),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_files_are_changed_through_the_layer_only(path):
    name = str(path.relative_to(ROOT))
    if name in ("DurableText/storage.py", "DurableText/files/syncing.py"):
        return
    objects = {"_cursor", "_conflicts", "self", "stdout", "stderr"}  # with a `write` of their own
    found = [
        (node.lineno, ast.unparse(node))
        for node, owner in changing_calls(path)
        if owner not in objects and (name, getattr(node.func, "attr", "open")) not in ALLOWED
    ]
    assert found == []
