"""What networks of other frameworks end with: rows of classes, however an exporter wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from Modelling.data_preparation import encode_npy
from Modelling.errors import CheckpointError, UnpredictableError
from Modelling.network.foreign import ForeignEngine
from Modelling.network.input_range import UNIT
from Modelling.network.tensors import Tensor
from Modelling.predict_cnn import Classifier, load_classifier, main
from tests.modelling.foreign import (
    SIDE,
    colours_onnx,
    labels_of,
    nan_on_black,
    one_of_each_colour,
    point_to,
    weights,
    write_side,
)

KEYS = {"classlabels_int64s": [0, 1, 2], "classlabels_strings": ["blue", "green", "red"]}


def ending_with(path: Path, nodes: list[Any], outputs: list[Any], *values: Any) -> Path:
    """Write the network of colours with more behind its probabilities, `p`."""
    model = onnx.load(colours_onnx(path))
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(values)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(model, path)
    return path


def reshaped(path: Path, *sizes: int) -> Path:
    return ending_with(
        path,
        [helper.make_node("Reshape", ["p", "sizes"], ["y"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, *sizes[1:]])],
        numpy_helper.from_array(np.array(sizes), "sizes"),
    )


@pytest.mark.parametrize("sizes", [(-1, 3, 1, 1), (-1, 1, 1, 3), (-1, 1, 3)], ids=str)
def test_axes_of_one_are_left_out(sizes: tuple[int, ...], tmp_path: Path) -> None:
    path = reshaped(tmp_path / "colours.onnx", *sizes)
    assert labels_of(load_classifier(path, threads=1)) == ["0", "1", "2"]


def test_a_map_of_classes_is_no_row_of_them(tmp_path: Path) -> None:
    model = onnx.load(colours_onnx(tmp_path / "colours.onnx"))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])
    )
    onnx.save(model, tmp_path / "colours.onnx")
    with pytest.raises(CheckpointError, match=r"one of float \(N, classes\) is needed"):
        load_classifier(tmp_path / "colours.onnx")


def test_one_number_for_each_picture_is_the_second_class(tmp_path: Path) -> None:
    path = ending_with(
        tmp_path / "colours.onnx",
        [helper.make_node("Gather", ["p", "blue"], ["y"], axis=1)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
        numpy_helper.from_array(np.array(2), "blue"),
    )
    assert labels_of(load_classifier(path, threads=1)) == ["0", "0", "1"]


@pytest.mark.parametrize("keys", KEYS)
def test_dictionaries_of_the_classes_are_rows_of_them(keys: str, tmp_path: Path) -> None:
    """So scikit-learn's exporter writes probabilities by default."""
    kind = TensorProto.INT64 if "int64s" in keys else TensorProto.STRING
    number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    rows = helper.make_sequence_type_proto(helper.make_map_type_proto(kind, number))
    path = ending_with(
        tmp_path / "colours.onnx",
        [
            helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0),
            helper.make_node("ZipMap", ["p"], ["y"], domain="ai.onnx.ml", **{keys: KEYS[keys]}),
        ],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_value_info("y", rows),
        ],
    )
    write_side(path, labels=["first", "second", "third"])
    # In the order of the names: the first output of the network is called `blue`.
    assert labels_of(load_classifier(path, threads=1)) == ["first", "second", "third"]


def test_a_score_beside_the_probabilities_is_not_taken_for_them(tmp_path: Path) -> None:
    path = ending_with(
        tmp_path / "colours.onnx",
        [helper.make_node("ReduceMax", ["p"], ["score"], axes=[1], keepdims=0)],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 3]),
        ],
    )
    assert labels_of(load_classifier(path, threads=1)) == ["0", "1", "2"]


def test_a_file_for_many_pictures_is_run_no_more_often_than_they_need() -> None:
    runs: list[int] = []

    def call(batch: Any) -> Any:
        runs.append(len(batch))
        return np.tile(np.array([0.2, 0.8], np.float32), (len(batch), 1))

    image = Tensor("x", (100, SIDE, SIDE, 3), np.float32)
    engine = ForeignEngine("any", image, Tensor("y", (100, 2), np.float32), call, None, UNIT)
    runs.clear()
    assert engine.run(np.zeros((250, SIDE, SIDE, 3), np.float32)).shape == (250, 2)
    assert runs == [100] * 3


def test_a_picture_that_the_model_answers_nan_to_is_not_classified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = nan_on_black(tmp_path / "colours.onnx")
    black, red = tmp_path / "black.npy", tmp_path / "red.npy"
    black.write_bytes(encode_npy(np.zeros((SIDE, SIDE, 3), np.uint8)))
    red.write_bytes(encode_npy(one_of_each_colour()[0]))
    classifier = load_classifier(path, threads=1)
    images, _ = classifier.prepare_batch([black.read_bytes(), red.read_bytes()])
    with pytest.raises(UnpredictableError, match="NaN or infinity for 1 of 2 images"):
        classifier.predict(images)
    assert main(["--checkpoint", str(path), str(black), str(red)]) == 1
    told = capsys.readouterr().out.splitlines()[2:]
    assert "not predicted: the model answers NaN" in told[0]
    assert told[1].split()[1] == "0"


def test_a_low_temperature_leaves_the_surest_class_sure(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx")
    write_side(path, temperature=0.001)
    classifier: Classifier = load_classifier(path, threads=1)
    dim = np.full((1, SIDE, SIDE, 3), 0.5, np.float32)
    dim[..., 1] += 0.02
    assert classifier.predict(dim).confidences.tolist() == [1.0]


def test_weights_lie_beside_what_a_link_leads_to(tmp_path: Path) -> None:
    release, link = tmp_path / "release", tmp_path / "current" / "colours.onnx"
    release.mkdir()
    link.parent.mkdir()
    path = colours_onnx(release / "colours.onnx")
    (release / "weights.bin").write_bytes(weights("NHWC").tobytes())
    point_to(path, "weights.bin")
    link.symlink_to(path)
    assert labels_of(load_classifier(link, threads=1)) == ["0", "1", "2"]


@pytest.mark.parametrize("what", ["fails", "answers once"])
def test_a_network_that_was_exported_for_one_picture_is_run_for_each(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its input says that any number may come; the graph behind it has one in it."""
    model = onnx.load(path := colours_onnx(tmp_path / "colours.onnx"))
    if what == "fails":
        shape = numpy_helper.from_array(np.array([1, SIDE * SIDE * 3]), "shape")
        model.graph.initializer.append(shape)
        model.graph.node[0].CopyFrom(helper.make_node("Reshape", ["x", "shape"], ["flat"]))
    else:
        model.graph.node[-1].output[0] = "each"
        model.graph.node.append(
            helper.make_node("ReduceMean", ["each"], ["p"], axes=[0], keepdims=1)
        )
    onnx.save(model, path)
    assert labels_of(load_classifier(path, threads=1)) == ["0", "1", "2"]
    assert "takes one picture at a time, though its input says any number" in caplog.text


@pytest.mark.parametrize("first", ["N", 1, 2])
def test_more_rows_than_pictures_are_no_classes_of_them(first: Any, tmp_path: Path) -> None:
    """As networks have that look for several things in each picture."""
    shape = [first, SIDE, SIDE, 3]
    model = onnx.load(path := colours_onnx(tmp_path / "colours.onnx", shape=shape))
    model.graph.node[-1].output[0] = "each"
    model.graph.node.append(helper.make_node("Concat", ["each", "each"], ["p"], axis=0))
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match=r"answers \(\d+, 3\) for \d images"):
        load_classifier(path)
