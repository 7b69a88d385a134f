"""SavedModel folders: the signature that is served, what holds no pixels, what reaches out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from Modelling.network.checkpoint import sha256_of
from Modelling.predict_cnn import CheckpointError, load_classifier
from tests.modelling.foreign import SIDE, labels_of, weights


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


def with_doubled_function(path: Path, times: int) -> None:
    """Let the served function go through functions of which each calls the next one twice."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    library = saved.meta_graphs[0].graph_def.library
    for number in range(times):
        function = library.function.add()
        function.signature.name = f"double_{number}"
        for name in "ab":
            node = function.node_def.add(name=name, op="PartitionedCall")
            node.attr["f"].func.name = f"double_{(number + 1) % 31}"
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())


@pytest.mark.parametrize(
    ("times", "said"),
    [(30, r"it has [0-9]{1,3},[0-9]{3},[0-9]{3},[0-9]{3} nodes"), (31, "call themselves")],
)
def test_functions_that_never_end_are_refused(times: int, said: str, tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, "x")
    module.serve = tf.function(lambda x: {"p": tf.reduce_mean(x, (1, 2))}, input_signature=[spec])
    tf.saved_model.save(module, str(path := tmp_path / "model"), signatures=module.serve)
    with_doubled_function(path, times)
    with pytest.raises(CheckpointError, match=said):
        load_classifier(path)
