"""Files of other frameworks answer as Keras' do; what cannot or must not run is refused by name."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from Modelling.data_preparation import encode_npy
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.network.keras_models import load_keras_model
from Modelling.network.layout import layout_of
from Modelling.network.tensors import Tensor, only_input
from Modelling.predict_cnn import CheckpointError, load_classifier
from Modelling.predictors.images import ImagePredictor
from tests.modelling.foreign import (
    SIDE,
    colours_onnx,
    exported,
    labels_of,
    write_side,
)


@pytest.mark.parametrize(
    ("made", "side"),
    [
        ({}, {}),
        ({"layout": "NCHW"}, {}),
        ({"shape": [1, SIDE, SIDE, 3]}, {}),
        ({"shape": [2, SIDE, SIDE, 3]}, {}),
        ({"shape": ["N", None, None, 3]}, {}),
        ({"shape": [None, None, None, None], "layout": "NCHW"}, {"layout": "NCHW"}),
        ({"dtype": TensorProto.FLOAT16}, {}),
        ({"dtype": TensorProto.DOUBLE}, {}),
        ({"dtype": TensorProto.FLOAT16, "shape": [1, 3, SIDE, SIDE], "layout": "NCHW"}, {}),
        ({"shape": [100, SIDE, SIDE, 3]}, {}),
        ({"shape": [None, SIDE, None, 3]}, {}),
        ({"shape": ["N", SIDE * SIDE * 3]}, {}),
        ({}, {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}),
        ({"extra_outputs": ("again",)}, {"output": "again"}),
        ({}, {"temperature": 2.0}),
    ],
    ids=str,
)
def test_an_onnx_file_answers_however_it_was_exported(
    made: dict[str, Any], side: dict[str, Any], tmp_path: Path
) -> None:
    path = colours_onnx(tmp_path / "colours.onnx", **made)
    write_side(path, **side)
    classifier = load_classifier(path, threads=1)
    assert labels_of(classifier) == ["red", "green", "blue"]
    digest = sha256(path.read_bytes()).hexdigest()[:12]
    assert (classifier.engine, classifier.version) == ("onnx", f"colours@{digest}")


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_pictures_lie_in_memory_as_the_network_takes_them(layout: str, tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "colours.onnx", layout=layout)
    classifier = load_classifier(path, threads=1)
    pictures = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    floats = pictures[3] / np.float32(255)  # by the general way
    datas = [encode_npy(each) for each in pictures]
    for sent in (datas, [*datas[:3], encode_npy(floats), b"no picture", datas[4]]):
        images, errors = classifier.prepare_batch(sent)
        assert [error is None for error in errors] == [each != b"no picture" for each in sent]
        assert np.allclose(images, pictures / np.float32(255), atol=1e-6)
        if len(sent) == len(pictures):
            assert images.transpose(0, 3, 1, 2).flags.c_contiguous == (layout == "NCHW")
            assert np.array_equal(images, pictures / np.float32(255))


def test_without_a_side_file_an_onnx_file_answers_with_numbers(tmp_path: Path) -> None:
    assert labels_of(load_classifier(colours_onnx(tmp_path / "a.onnx"))) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"softmax_domain": "com.evil"}, "operators of its maker's own, com.evil.Softmax"),
        ({"softmax_domain": "ai.onnx.contrib"}, "own, ai.onnx.contrib.Softmax"),
        ({"dtype": TensorProto.INT32}, "takes no pixels|refuses it"),
        ({"shape": ["N", SIDE, SIDE, 5]}, "refuses it"),
        ({"shape": [0, SIDE, SIDE, 3]}, r"x float32 \(0, 8, 8, 3\) holds nothing: export it"),
        ({"shape": [SIDE]}, "holds no images|refuses it|cannot be run"),
        ({"extra_outputs": ("again",)}, 'choose by "output"'),
        (
            {"extra_inputs": [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]},
            "has 2 inputs, x float32 .*, y float32",
        ),
        ({"shape": ["N", None, None, 3]}, 'write "input_shape"'),
        ({"shape": ["N", SIDE * SIDE * 3]}, 'rows of pixels and "input_shape"'),
    ],
    ids=str,
)
def test_an_onnx_file_that_is_no_image_classifier_is_refused_by_name(
    made: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = colours_onnx(tmp_path / "colours.onnx", **made)
    with pytest.raises(CheckpointError, match=said):
        load_classifier(path)


def test_a_tensor_that_may_be_either_layout_or_holds_no_pixels_is_refused() -> None:
    with pytest.raises(CheckpointError, match='write "layout"'):
        layout_of(Tensor("x", (None, 3, SIDE, 3), np.float32), None)
    with pytest.raises(CheckpointError, match="takes no pixels"):
        only_input([Tensor("x", (None, 3), np.int64)])


def test_so_many_classes_are_not_named_that_no_result_could_hold_them(tmp_path: Path) -> None:
    path = colours_onnx(tmp_path / "a.onnx")
    classifier = load_classifier(path)
    classifier.labels = tuple(f"class {number}" for number in range(20_000))
    ImagePredictor(classifier, top=5)
    with pytest.raises(CheckpointError, match=r"--top 20000 of 20000 classes .* name fewer"):
        ImagePredictor(classifier, top=20_000)


def test_outputs_that_are_no_tensors_are_named_as_the_runtime_does(tmp_path: Path) -> None:
    path = tmp_path / "rows.onnx"
    node = helper.make_node("SequenceConstruct", ["x"], ["scores"])
    scores = helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 3])
    )
    graph = helper.make_graph(
        [node],
        "rows",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_value_info("scores", scores)],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    with pytest.raises(CheckpointError, match=r"scores seq\(tensor\(float\)\)"):
        load_classifier(path)


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "colours.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="not an ONNX file"):
        load_classifier(path)


def test_an_export_of_the_shipped_network_gives_the_same_probabilities(
    mnist: Any, tmp_path: Path
) -> None:
    path = exported(load_keras_model(DEFAULT_CHECKPOINT), tmp_path / "digits.onnx")
    pixels = (mnist[0][:500] / np.float32(255))[..., None]
    ours = load_classifier(engine="float32", threads=1)._engine.run(pixels)
    assert np.abs(load_classifier(path, threads=1).probabilities(pixels) - ours).max() < 1e-4


def test_a_litert_file_answers_as_the_form_that_it_is(mnist: Any, tmp_path: Path) -> None:
    path = tmp_path / "digits.tflite"
    form = DEFAULT_CHECKPOINT.with_suffix(".float32.tflite")
    path.write_bytes(form.read_bytes())
    pixels = (mnist[0][:8] / np.float32(255))[..., None]
    expected = load_classifier(engine="float32", threads=1)
    answered = load_classifier(path, threads=1)
    assert np.array_equal(answered._engine.run(pixels), expected._engine.run(pixels))
    assert answered.version.startswith("digits@")
