"""`.tflite` files as others make them: 8 bits in and out, a batch of one, several outputs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Modelling.classifier import Classifier
from Modelling.data_preparation import encode_npy
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Modelling.predict_cnn import CheckpointError, load_classifier
from tests.modelling.crashers import SHIPPED, tflite_with_an_output_that_is_none, with_form
from tests.modelling.foreign import SIDE, one_of_each_colour, weights

Convert = Callable[..., Path]
PIXELS = SIDE * SIDE * 3


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


@pytest.fixture
def converted(tf: Any, tmp_path: Path) -> Convert:
    def convert(
        shape: tuple[int | None, ...] = (None, SIDE, SIDE, 3),
        *,
        bits: Any = None,
        outputs: int = 1,
        rows: int = -1,
        layout: str = "NHWC",
    ) -> Path:
        """Make a file of a function that tells red, green and blue."""
        matrix = tf.constant(weights(layout))

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, "x")])
        def colours(x: Any) -> dict[str, Any]:
            logits = tf.reshape(x, [rows, PIXELS]) @ matrix
            return {"p": tf.nn.softmax(logits), "again": logits} if outputs == 2 else {
                "p": tf.nn.softmax(logits)
            }  # fmt: skip

        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [colours.get_concrete_function()], tf.Module()
        )
        if bits is not None:
            pictures = one_of_each_colour() / np.float32(255)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([each[None]] for each in pictures)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = bits
        path = tmp_path / "colours.tflite"
        path.write_bytes(converter.convert())
        return path

    return convert


def write_side(path: Path, **more: Any) -> None:
    digest = sha256(path.read_bytes()).hexdigest()
    side = {"sha256": digest, "labels": ["red", "green", "blue"], "input_shape": [SIDE, SIDE, 3]}
    path.with_name(f"{path.name}.json").write_text(json.dumps({**side, **more}))


def confidences_of(path: Path, count: int = 5) -> dict[str, float]:
    """Classify so many red pictures, and a green and a blue one."""
    classifier = load_classifier(path, threads=1)
    red, green, blue = one_of_each_colour()
    pixels, _ = classifier.prepare_batch(
        [encode_npy(each) for each in [red] * count + [green, blue]]
    )
    found = classifier.predict(pixels)
    assert found.labels[:count] == found.labels[:1] * count
    return dict(
        zip(found.labels[count - 1 :], found.confidences[count - 1 :].tolist(), strict=True)
    )


@pytest.mark.parametrize("bits", ["uint8", "int8"])
def test_a_file_that_takes_and_gives_8_bits_answers_as_one_of_floats(
    bits: str, tf: Any, converted: Convert
) -> None:
    exact = confidences_of(converted())
    assert list(exact) == ["0", "1", "2"]
    rough = confidences_of(converted(bits=getattr(tf, bits)))
    assert rough == pytest.approx(exact, abs=0.02)


def test_a_file_for_one_picture_at_a_time_is_given_one_at_a_time(converted: Convert) -> None:
    path = converted((1, SIDE, SIDE, 3), rows=1)
    assert confidences_of(path) == pytest.approx(confidences_of(converted()))


def test_a_file_that_wants_the_channels_first_is_given_them_so(converted: Convert) -> None:
    path = converted((None, 3, SIDE, SIDE), layout="NCHW")
    write_side(path, layout="NCHW")
    assert list(confidences_of(path)) == ["red", "green", "blue"]


def test_of_several_outputs_the_side_file_chooses_one(converted: Convert) -> None:
    path = converted(outputs=2)
    with pytest.raises(CheckpointError, match=r'has the outputs .*, .*choose by "output"') as told:
        load_classifier(path)
    first = str(told.value).split("has the outputs ")[1].split(" float32")[0]
    write_side(path, output=first)
    assert list(confidences_of(path)) == ["red", "green", "blue"]


def test_of_several_signatures_the_side_file_chooses_one(tf: Any, tmp_path: Path) -> None:
    def signature(sign: float) -> Any:
        @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, "x")])
        def serve(x: Any) -> Any:
            return {"p": tf.nn.softmax(sign * tf.reshape(x, [-1, PIXELS]) @ module.w)}

        return serve

    module = tf.Module()
    module.w = tf.Variable(weights("NHWC"))
    saved, path = str(tmp_path / "saved"), tmp_path / "colours.tflite"
    tf.saved_model.save(module, saved, signatures={"infer": signature(1), "turned": signature(-1)})
    converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["turned", "infer"])
    path.write_bytes(converter.convert())
    with pytest.raises(CheckpointError, match='but infer, turned: choose by "signature"'):
        load_classifier(path)
    write_side(path, signature="infer")
    found = confidences_of(path)
    assert list(found) == ["red", "green", "blue"]
    assert min(found.values()) > 0.99
    write_side(path, signature="other")
    with pytest.raises(CheckpointError, match="no signature other, but infer, turned"):
        load_classifier(path)


def test_a_file_that_was_cut_off_is_refused(converted: Convert) -> None:
    path = converted()
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(CheckpointError, match="damaged, or not LiteRT's"):
        load_classifier(path)


@pytest.mark.parametrize(
    ("custom", "said"),
    [
        (False, r"operations of TensorFlow itself \(FlexAvgPool3D\): convert it with LiteRT's own"),
        (True, "unresolved custom op: Erfinv: convert it with LiteRT's own"),
    ],
)
def test_operations_that_litert_does_not_have_are_named_with_what_can_be_done(
    custom: bool, said: str, tf: Any, tmp_path: Path
) -> None:
    @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3], tf.float32)])
    def serve(x: Any) -> Any:
        logits = tf.reshape(x, [-1, PIXELS]) @ tf.constant(weights("NHWC"))
        if custom:
            return tf.nn.softmax(tf.math.erfinv(logits))
        pooled = tf.nn.avg_pool3d(tf.reshape(logits, [1, 1, 1, 1, 3]), 1, 1, "VALID")
        return tf.nn.softmax(tf.reshape(pooled, [1, 3]))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
    converter.allow_custom_ops = custom
    if not custom:
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS, sets.SELECT_TF_OPS]
    path = tmp_path / "a.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(CheckpointError, match=said):
        load_classifier(path)


def test_a_file_that_lacks_a_table_does_not_end_the_process(tmp_path: Path) -> None:
    """LiteRT would, with a server that looks at it beside the model that answers."""
    content = bytearray(DEFAULT_CHECKPOINT.with_suffix(".int8.tflite").read_bytes())
    root = int.from_bytes(content[:4], "little")
    fields = root - int.from_bytes(content[root : root + 4], "little", signed=True)
    content[fields + 8 : fields + 10] = bytes(2)  # the third, of the graphs
    (path := tmp_path / "digits.tflite").write_bytes(content)
    run = subprocess.run(
        [sys.executable, "-m", "Modelling.predict_cnn", "--checkpoint", path, "image.png"],
        cwd=DEFAULT_CHECKPOINT.parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2, run.stderr
    assert "digits.tflite: damaged, or not LiteRT's" in run.stderr


@pytest.mark.parametrize("as_form", [False, True])
def test_what_litert_refuses_late_is_a_line_as_well(as_form: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite_with_an_output_that_is_none())
    if as_form:
        path = with_form(tmp_path, path.read_bytes())
    with pytest.raises(CheckpointError, match="cannot be run: Invalid tensor index -1"):
        load_classifier(path, threads=1)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (MemoryError(), "more memory than there is"),
        (FileNotFoundError(2, "No such file"), "cannot be read: No such file"),
        (RuntimeError("Node 3 failed"), "cannot be run: Node 3 failed"),
    ],
)
def test_whatever_warming_up_raises_names_the_file(
    raised: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(_: Classifier) -> None:
        raise raised

    path = tmp_path / "model.tflite"
    path.write_bytes(SHIPPED.read_bytes())
    monkeypatch.setattr(Classifier, "warm_up", raises)
    with pytest.raises(CheckpointError, match=rf"model\.tflite: .*{said}"):
        load_classifier(path, threads=1)
