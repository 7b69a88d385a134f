"""What an ONNX file asks for: memory by a few bytes, and weights in files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from Modelling import promote
from Modelling.network.onnx_files import require_safe
from Modelling.predict_cnn import CheckpointError, load_classifier
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from tests.modelling.foreign import SIDE, colours_onnx, labels_of, point_to, weights, write_side


def test_a_picture_that_a_few_bytes_ask_for_is_not_made(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "a.onnx", shape=["N", 20_000, 20_000, 3])
    model = onnx.load(path)
    del model.graph.initializer[:]
    model.graph.node[0].CopyFrom(helper.make_node("ReduceMean", ["x"], ["logits"], axes=[1, 2]))
    model.graph.node[0].attribute.append(helper.make_attribute("keepdims", 0))
    del model.graph.node[1]
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match=r"takes images of \(20000, 20000, 3\): 67,108,864"):
        load_classifier(path)


def many(kind: int, name: str = "many") -> list[Any]:
    """Nodes that make 30,000 times 30,000 values of a type, and add them up to `y`."""
    value = helper.make_tensor("zero", kind, [1], [0])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [30_000, 30_000])
    return [
        helper.make_node("Constant", [], [f"{name}_shape"], value=shape),
        helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=value),
        helper.make_node("ReduceSum", [name], ["y"]),
    ]


def inside_of_a_branch() -> list[Any]:
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    few = helper.make_node("Constant", [], ["y"], value_float=0.0)
    branches = {
        "then_branch": helper.make_graph(many(TensorProto.FLOAT), "then", [], [y]),
        "else_branch": helper.make_graph([few], "else", [], [y]),
    }
    condition = helper.make_tensor("condition", TensorProto.BOOL, [], [True])
    return [
        helper.make_node("Constant", [], ["condition"], value=condition),
        helper.make_node("If", ["condition"], ["y"], **branches),
    ]


def a_sparse_constant() -> list[Any]:
    values = helper.make_tensor("values", TensorProto.DOUBLE, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1, 2], [0, 0])
    sparse = helper.make_sparse_tensor(values, indices, [30_000, 30_000])
    return [
        helper.make_node("Constant", [], ["many"], sparse_value=sparse),
        helper.make_node("ReduceSum", ["many"], ["y"]),
    ]


@pytest.mark.parametrize(
    ("nodes", "declared"),
    [
        (many(TensorProto.FLOAT), "3,600,000,000"),
        (many(TensorProto.DOUBLE), "7,200,000,000"),
        (inside_of_a_branch(), "3,600,000,000"),
        (a_sparse_constant(), "7,200,000,000"),
    ],
    ids=["float", "double", "inside of a branch", "a sparse constant"],
)
def test_a_tensor_that_a_few_bytes_ask_for_is_not_made(
    tmp_path: Path, nodes: list[Any], declared: str
) -> None:
    """The runtime would make it while it loads the file."""
    path = tmp_path / "huge.onnx"
    graph = helper.make_graph(
        nodes,
        "huge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)

    with pytest.raises(CheckpointError, match=f"declares {declared} bytes"):
        require_safe(path)


OWN = "of.its.maker"


def of_functions(path: Path, functions: dict[str, list[str]]) -> Path:
    """A network that calls the function `first`, each of which calls others in a row."""
    model = onnx.load(colours_onnx(path))
    domains = [helper.make_opsetid("", 17), helper.make_opsetid(OWN, 1)]
    for name, called in functions.items():
        values = ["a", *(f"v{number}" for number in range(1, len(called))), "b"]
        nodes = [
            helper.make_node(each, [x], [y], domain=OWN if each in functions else "")
            for each, x, y in zip(called, values[:-1], values[1:], strict=True)
        ]
        model.functions.append(helper.make_function(OWN, name, ["a"], ["b"], nodes, domains))
    model.opset_import.append(domains[1])
    model.graph.node[-1].input[0] = "called"
    model.graph.node.insert(2, helper.make_node("first", ["logits"], ["called"], domain=OWN))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ({"first": ["first"]}, "its functions call themselves: "),
        ({"first": ["other"], "other": ["first"]}, "its functions call themselves: "),
        (
            {
                "first": ["f0"],
                **{f"f{number}": [f"f{number + 1}"] * 2 for number in range(30)},
                "f30": ["Relu"],
            },
            r"it has 1,073,741,[0-9]+ nodes, with its functions where they are called",
        ),
    ],
    ids=["itself", "each other", "a thousand million times"],
)
@pytest.mark.timeout(60)
def test_functions_that_never_end_are_refused(
    functions: dict[str, list[str]], said: str, tmp_path: Path
) -> None:
    """A server that loads such a file beside the one that answers would stand still."""
    with pytest.raises(CheckpointError, match=said):
        load_classifier(of_functions(tmp_path / "a.onnx", functions))


def test_functions_are_called_as_often_as_a_network_needs_them(tmp_path: Path) -> None:
    functions = {"first": ["other", "other"], "other": ["Relu"]}
    assert labels_of(load_classifier(of_functions(tmp_path / "a.onnx", functions)))


def test_tensors_that_are_read_from_one_place_count_each(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    (tmp_path / "weights.bin").write_bytes(weights("NHWC").tobytes())
    point_to(path, "weights.bin")
    model = onnx.load(path, load_external_data=False)
    [tensor] = model.graph.initializer
    for number in range(9):
        again = model.graph.initializer.add()
        again.CopyFrom(tensor)
        again.name = f"again {number}"
    onnx.save_model(model, path)
    size = 10 * weights("NHWC").nbytes
    require_safe(path, size + path.stat().st_size)
    with pytest.raises(CheckpointError, match=f"declares {size + path.stat().st_size:,} bytes"):
        require_safe(path, size)
    again = model.graph.initializer.add()
    again.CopyFrom(tensor)
    again.name = "less than nothing"
    again.dims[:] = [-size]
    onnx.save_model(model, path)
    with pytest.raises(CheckpointError, match="declares"):
        require_safe(path, size)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_weights_outside_of_the_folder_are_not_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(weights("NHWC").tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = colours_onnx(folder / "colours.onnx")
    point_to(path, location)
    with pytest.raises(CheckpointError, match="outside its folder"):
        load_classifier(path)


@pytest.mark.parametrize("location", ["a\0b", "a" * 5000], ids=["NUL", "long"])
def test_weights_in_a_file_that_cannot_be_are_refused(location: str, tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    point_to(path, location)
    with pytest.raises(CheckpointError, match="no file can be called"):
        load_classifier(path)


def test_weights_beside_the_file_are_read_and_count(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    (tmp_path / "weights.bin").write_bytes(weights("NHWC").tobytes())
    point_to(path, "weights.bin")
    write_side(path)
    assert labels_of(load_classifier(path)) == ["red", "green", "blue"]
    with pytest.raises(CheckpointError, match="--max-model-bytes"):
        load_classifier(path, max_bytes=2000)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CheckpointError, match=r"weights\.bin.*missing"):
        load_classifier(path)


def test_weights_beside_the_file_make_another_version_and_are_watched(tmp_path: Path) -> None:
    path, data = colours_onnx(tmp_path / "colours.onnx"), tmp_path / "weights.bin"
    data.write_bytes(weights("NHWC").tobytes())
    point_to(path, data.name)
    source = CheckpointSource(path, lambda found: ImagePredictor(load_classifier(found, threads=1)))
    before = source.load(lambda: None).version
    assert data in source.files()
    data.write_bytes((weights("NHWC") * 2).tobytes())
    assert source.load(lambda: None).version != before


def test_a_file_whose_weights_lie_in_another_is_not_promoted_in_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, served = tmp_path / "new", tmp_path / "served"
    new.mkdir()
    served.mkdir()
    path, old = colours_onnx(new / "colours.onnx"), colours_onnx(served / "colours.onnx")
    (new / "weights.bin").write_bytes(weights("NHWC").tobytes())
    point_to(path, "weights.bin")
    assert promote.main([str(path), "--served", str(old)]) == 2
    assert "further files, weights.bin: save it as one" in capsys.readouterr().err
    assert list(served.iterdir()) == [old]
    onnx.save(onnx.load(path), new / "whole.onnx")
    assert promote.main([str(new / "whole.onnx"), "--served", str(old)]) == 0
    assert labels_of(load_classifier(old)) == ["0", "1", "2"]
