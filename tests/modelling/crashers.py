"""Files that crash the runtime that opens them, made of good ones by a change of a few bytes."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.network.tflite_graph import TfliteGraph

SHIPPED = DEFAULT_CHECKPOINT.with_suffix(".float32.tflite")


def tflite_with_options_of_another_operator() -> bytes:
    """LiteRT 2.3 reads those of a dense layer as those of a split, and is ended by SIGSEGV."""
    graph = TfliteGraph(SHIPPED.read_bytes())
    for code in graph._model.operatorCodes:
        if code.builtinCode == DENSE:
            code.builtinCode = code.deprecatedBuiltinCode = SPLIT
    return graph.written()


# Numbers of operators in LiteRT's schema.
DENSE, SPLIT = 9, 49


def tflite_with_an_output_that_is_none() -> bytes:
    """No runtime is crashed by it, but what is raised is of its own kind."""
    graph = TfliteGraph(SHIPPED.read_bytes())
    graph._model.subgraphs[0].outputs = [-1]
    return graph.written()


def with_form(folder: Path, compiled: bytes) -> Path:
    """The shipped checkpoint, whose only compiled form this is, as its side file says."""
    path, form = folder / "shipped.h5", folder / "shipped.float32.tflite"
    path.write_bytes(DEFAULT_CHECKPOINT.read_bytes())
    form.write_bytes(compiled)
    side = json.loads(DEFAULT_CHECKPOINT.with_suffix(".json").read_bytes())
    side["engines"] = {"float32": {"file": form.name, "sha256": sha256(compiled).hexdigest()}}
    path.with_suffix(".json").write_text(json.dumps(side))
    return path


def write_labels(path: Path) -> None:
    """Write a side file with the labels of the shipped checkpoint."""
    side = json.loads(DEFAULT_CHECKPOINT.with_suffix(".json").read_bytes())
    side = {key: side[key] for key in ("labels", "input_shape", "preprocessing")}
    sha = sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.json").write_text(json.dumps({**side, "sha256": sha}))
