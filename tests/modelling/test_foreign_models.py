"""Files of other frameworks answer as Keras' do; what cannot or must not run is refused by name."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from Modelling import promote
from Modelling.data_preparation import encode_npy
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, sha256_of
from Modelling.network.foreign import Tensor, layout_of, only_input
from Modelling.network.keras_models import load_keras_model
from Modelling.network.onnx_files import require_safe
from Modelling.predict_cnn import CheckpointError, Classifier, load_classifier
from Modelling.predictors.checkpoint_source import CheckpointSource
from Modelling.predictors.images import ImagePredictor
from tests.modelling.foreign import (
    SIDE,
    colours_onnx,
    exported,
    one_of_each_colour,
    point_to,
    weights,
)


def write_side(path: Path, **more: Any) -> None:
    side = {
        "sha256": sha256(path.read_bytes()).hexdigest(),
        "labels": ["red", "green", "blue"],
        "input_shape": [SIDE, SIDE, 3],
    }
    path.with_name(f"{path.name}.json").write_text(json.dumps({**side, **more}))


def labels_of(classifier: Classifier) -> list[str]:
    images, errors = classifier.prepare_batch([encode_npy(i) for i in one_of_each_colour()])
    assert not any(errors)
    return classifier.predict(images).labels


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
    source = CheckpointSource(path, lambda file: ImagePredictor(load_classifier(file, threads=1)))
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


def test_of_several_signatures_of_a_saved_model_the_side_file_chooses_one(tmp_path: Path) -> None:
    import tensorflow as tf

    def signature(sign: float) -> Any:
        @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, "x")])
        def serve(x: Any) -> Any:
            return {"p": tf.nn.softmax(sign * tf.reshape(x, [-1, SIDE * SIDE * 3]) @ module.w)}

        return serve

    module = tf.Module()
    module.w = tf.Variable(weights("NHWC"))
    path, only = tmp_path / "colours", tmp_path / "only"
    tf.saved_model.save(module, str(path), signatures={"a": signature(-1), "b": signature(1)})
    tf.saved_model.save(module, str(only), signatures={"b": signature(1)})
    assert labels_of(load_classifier(only)) == ["0", "1", "2"]
    with pytest.raises(CheckpointError, match='serving_default, but a, b: choose by "signature"'):
        load_classifier(path)
    side = {"sha256": sha256_of(path), "labels": list("rgb"), "input_shape": [SIDE, SIDE, 3]}
    path.with_name("colours.json").write_text(json.dumps({**side, "signature": "b"}))
    assert labels_of(load_classifier(path)) == ["r", "g", "b"]


def test_tensors_that_hold_no_pixels_are_named_by_their_type(tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    for dtype in (tf.bfloat16, tf.string):
        spec = tf.TensorSpec([None, SIDE, SIDE, 3], dtype, "x")
        serve = tf.function(lambda x: {"p": tf.zeros([tf.shape(x)[0], 3])}, input_signature=[spec])
        folder = tmp_path / dtype.name
        tf.saved_model.save(module, str(folder), signatures=serve)
        with pytest.raises(CheckpointError, match=rf"input x {dtype.name} \(N, 8, 8, 3\) takes no"):
            load_classifier(folder)


@pytest.mark.parametrize("safe", [True, False])
def test_a_saved_model_answers_unless_its_graph_reaches_out(safe: bool, tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(weights("NHWC"))

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, "x")])
    def serve(x: Any) -> Any:
        if not safe:
            tf.io.write_file(str(tmp_path / "written"), "by the model")
        return {"p": tf.nn.softmax(tf.reshape(x, [-1, SIDE * SIDE * 3]) @ module.w)}

    path = tmp_path / "colours"
    tf.saved_model.save(module, str(path), signatures={"serving_default": serve})
    if not safe:
        with pytest.raises(CheckpointError, match="WriteFile"):
            load_classifier(path)
        assert not (tmp_path / "written").exists()
        return
    classifier = load_classifier(path)
    assert labels_of(classifier) == ["0", "1", "2"]
    (path / "assets").mkdir(exist_ok=True)
    (path / "assets" / "words.txt").write_text("another")
    assert load_classifier(path).version != classifier.version
