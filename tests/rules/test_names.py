"""One word for one thing: whoever reads the name of a class knows which one is meant."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.rules.test_layers import MODULES


def test_no_two_public_classes_have_the_same_name() -> None:
    places = defaultdict(list)
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
