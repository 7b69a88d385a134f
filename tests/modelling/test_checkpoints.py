"""Which checkpoints are served, how, and which are refused with one clear line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Modelling import classifier
from Modelling.data_preparation import encode_npy
from Modelling.network.checkpoint import (
    DEFAULT_CHECKPOINT,
    open_checkpoint,
    read_side_file,
    sha256_of,
)
from Modelling.network.engine import load_keras_model
from Modelling.predict_cnn import CheckpointError, Classifier, load_classifier

Mnist = tuple[np.ndarray, np.ndarray]

ROOT = DEFAULT_CHECKPOINT.parent.parent.parent


def edit_side_file(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_shipped_checkpoint_is_as_accurate_as_its_side_file_says(
    mnist: Mnist, classifier: Classifier
) -> None:
    side = read_side_file(DEFAULT_CHECKPOINT)
    assert side is not None
    prepared, _ = classifier.prepare_batch([encode_npy(image) for image in mnist[0]])
    right = int((classifier.predict(prepared).class_indices == mnist[1]).sum())
    # Another CPU rounds differently and may see one image in another way.
    assert right / 10_000 == pytest.approx(side.engines[classifier.engine].test_accuracy, abs=1e-4)


def test_a_quantised_form_is_shipped_only_if_it_is_no_less_accurate() -> None:
    side = read_side_file(DEFAULT_CHECKPOINT)
    assert side is not None
    if "int8" in side.engines:
        assert side.engines["int8"].test_accuracy >= side.engines["float32"].test_accuracy


def test_the_version_names_the_checkpoint_its_hash_and_the_quantisation(
    classifier: Classifier,
) -> None:
    expected = f"mnist_cnn_model@{sha256_of(DEFAULT_CHECKPOINT)[:12]}"
    assert classifier.version == expected + ("+int8" if classifier.engine == "int8" else "")
    assert load_classifier(engine="float32").version == expected


def test_the_float32_engine_answers_as_keras_does(mnist: Mnist) -> None:
    pixels = mnist[0][:1000, ..., None].astype(np.float32) / np.float32(255)
    keras_model = load_keras_model(DEFAULT_CHECKPOINT)
    expected = keras_model.predict(pixels, batch_size=500, verbose=0)
    for engine in ("float32", "tensorflow"):
        answered = load_classifier(engine=engine)._engine.run(pixels)
        assert np.abs(answered - expected).max() < 1e-4


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, 200])
def test_the_batch_size_changes_no_answer(size: int, mnist: Mnist, classifier: Classifier) -> None:
    pixels = mnist[0][:200, ..., None].astype(np.float32) / np.float32(255)
    whole = classifier.probabilities(pixels)
    batch = classifier.predict(pixels[:size])
    assert batch.confidences.shape == (size,)
    assert batch.confidences.dtype == np.float32
    assert batch.class_indices.dtype == np.int64
    assert np.array_equal(batch.class_indices, whole[:size].argmax(1))
    assert np.allclose(batch.confidences, whole[:size].max(1), atol=1e-6)
    assert batch.labels == [str(index) for index in batch.class_indices]


def test_as_many_images_are_run_at_once_as_the_cache_holds(
    mnist: Mnist, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = mnist[0][:100, ..., None].astype(np.float32) / np.float32(255)
    monkeypatch.setattr("Modelling.network.litert.CACHE_BYTES", 1)
    one_by_one = load_classifier()
    sizes: list[int] = []
    outputs = one_by_one._engine._outputs  # type: ignore[attr-defined]
    monkeypatch.setattr(
        one_by_one._engine, "_outputs", lambda chunk: sizes.append(len(chunk)) or outputs(chunk)
    )
    assert np.array_equal(one_by_one.probabilities(images), classifier.probabilities(images))
    assert sizes == [1] * 100


def test_images_of_another_shape_or_type_are_refused(classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="float32"):
        classifier.predict(np.zeros((1, 28, 28, 1)))
    with pytest.raises(ValueError, match="28"):
        classifier.predict(np.zeros((1, 32, 32, 1), np.float32))


def test_the_shipped_checkpoint_is_served_without_tensorflow_and_without_a_word() -> None:
    code = (
        "import sys; from Modelling.predict_cnn import load_classifier; load_classifier();"
        "assert not {'tensorflow', 'keras', 'h5py', 'matplotlib'} & sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_compiled_form_that_was_changed_is_not_used(copy: Path) -> None:
    left = [name for name in ("int8", "float32") if copy.with_suffix(f".{name}.tflite").exists()]
    assert load_classifier(copy).engine == left[0]
    for engine, next_best in zip(left, [*left[1:], "tensorflow"], strict=True):
        form = copy.with_suffix(f".{engine}.tflite")
        form.write_bytes(form.read_bytes()[:-1] + b"!")
        with pytest.raises(CheckpointError, match=f"no {engine} form that matches"):
            load_classifier(copy, engine=engine)
        classifier = load_classifier(copy)
        assert classifier.engine == next_best
        assert not classifier.version.endswith("+int8")


def test_a_compiled_form_that_is_replaced_while_it_is_opened_is_not_used(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer, read = copy.with_suffix(".float32.tflite").read_bytes(), Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: newer if ".int8." in path.name else read(path)
    )
    assert load_classifier(copy).engine == "float32"


def test_a_missing_checkpoint_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such checkpoint.*train_cnn"):
        load_classifier(tmp_path / "mnist_cnn_model.h5")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\.h5 or \.keras"):
        load_classifier(tmp_path / "model.pt")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse at once what would be looked at again for five seconds."""
    monkeypatch.setattr(
        classifier, "open_checkpoint", lambda path, **_: open_checkpoint(path, patience=0)
    )


@pytest.mark.usefixtures("impatient")
def test_a_checkpoint_that_does_not_match_its_side_file_is_refused(copy: Path) -> None:
    copy.write_bytes(copy.read_bytes() + b"!")
    with pytest.raises(CheckpointError, match="does not match its side file"):
        load_classifier(copy)


@pytest.mark.usefixtures("impatient")
def test_labels_that_do_not_match_the_outputs_are_refused(copy: Path) -> None:
    edit_side_file(copy, labels=["yes", "no"])
    with pytest.raises(CheckpointError, match="10 classes apart, but its side file names 2"):
        load_classifier(copy)


@pytest.mark.usefixtures("impatient")
def test_an_input_shape_that_is_not_the_models_is_refused(copy: Path) -> None:
    edit_side_file(copy, input_shape=[32, 32, 3], preprocessing="resize")
    with pytest.raises(CheckpointError, match=r"\(28, 28, 1\), but its side file says"):
        load_classifier(copy)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": "1"}', '{"sha256": 1, "labels": 3}'])
def test_a_damaged_side_file_is_refused(text: str, copy: Path) -> None:
    copy.with_suffix(".json").write_text(text)
    with pytest.raises(CheckpointError, match=r"mnist_cnn_model\.json"):
        load_classifier(copy)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sclae": 255}, "unknown key 'sclae'"),
        ({"labels": "0123456789"}, "list"),
        ({"labels": ["a", ""]}, "not empty"),
        ({"labels": ["a", 1]}, "must be texts"),
        ({"labels": ["a", "b\x1b[31m"]}, "control characters"),
        ({"labels": ["a", "b\n"]}, "control characters"),
        ({"labels": ["a", "\ud800"]}, "control characters"),
        ({"input_shape": [28.5, 28, 1]}, "input_shape"),
        ({"input_shape": [True, 28, 1]}, "input_shape"),
        ({"input_shape": ["28", "28", "1"]}, "input_shape"),
        ({"input_shape": [28, 28]}, "input_shape"),
        ({"input_shape": [28, 0, 1]}, "input_shape"),
        ({"input_shape": 28}, "input_shape"),
        ({"preprocessing": "none"}, "preprocessing"),
        ({"preprocessing": ["digits"]}, "preprocessing"),
        ({"input_shape": [32, 32, 1]}, "'digits' makes images of"),
        ({"scale": 0}, "scale"),
        ({"scale": "255"}, "scale"),
        ({"scale": [1, 2]}, "scale"),
        ({"scale": True}, "scale"),
        ({"offset": float("nan")}, "offset"),
        ({"input_range": 255}, "input_range"),
        ({"input_range": [1, 0]}, "input range"),
        ({"input_range": [[0, 1], [0, 1]]}, "input_range"),
        ({"input_range": [0, 1], "scale": 2}, "in two ways"),
        ({"mean": "grey"}, "mean"),
        ({"std": 0}, "std"),
        ({"resize": "lanczos"}, "resize"),
        ({"layout": "CHWN"}, "layout"),
        ({"layout": "NCHW"}, "layout"),
        ({"white": 0}, "white"),
        ({"white": True}, "white"),
        ({"temperature": -1}, "temperature"),
        ({"sha256": 7}, "sha256"),
        ({"engines": []}, "engines"),
        ({"engines": {"int8": {"file": 7, "sha256": "a"}}}, "engines.int8.file"),
        ({"engines": {"int8": {"file": "a.tflite"}}}, "engines.int8"),
        ({"engines": {"int8": {"file": "a", "sha256": "b", "size": 1}}}, "engines.int8"),
        ({"engines": {"int8": None}}, "engines.int8"),
        ({"training": 3}, "training"),
    ],
)
def test_a_wrong_value_in_the_side_file_is_refused_by_its_key(
    changes: dict[str, Any], reason: str, copy: Path
) -> None:
    edit_side_file(copy, **changes)
    with pytest.raises(CheckpointError) as refused:
        load_classifier(copy)
    assert reason in str(refused.value)
    assert str(refused.value).count("\n") == 0
    assert len(str(refused.value)) < 600


@pytest.mark.usefixtures("impatient")
def test_a_side_file_of_endless_depth_is_refused(copy: Path) -> None:
    copy.with_suffix(".json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_classifier(copy)


def test_a_pair_that_is_being_copied_is_looked_at_again(copy: Path) -> None:
    whole = copy.read_bytes()
    copy.write_bytes(whole[:1000])
    copier = threading.Timer(0.5, copy.write_bytes, [whole])
    copier.start()
    try:
        assert open_checkpoint(copy).sha256 == sha256_of(DEFAULT_CHECKPOINT)
    finally:
        copier.join()


def test_a_pair_that_stays_unequal_is_refused_in_the_end(copy: Path) -> None:
    copy.write_bytes(b"half")
    started = time.monotonic()
    with pytest.raises(CheckpointError):
        open_checkpoint(copy, patience=0.6)
    assert time.monotonic() - started >= 0.6


def test_a_side_file_cannot_point_out_of_its_folder(copy: Path, tmp_path: Path) -> None:
    side = json.loads(copy.with_suffix(".json").read_text())
    outside = tmp_path / "outside.tflite"
    shutil.copy(copy.with_suffix(".float32.tflite"), outside)
    side["engines"]["float32"]["file"] = "../outside.tflite"
    copy.with_suffix(".json").write_text(json.dumps(side))
    with pytest.raises(CheckpointError, match="no float32 form"):
        load_classifier(copy, engine="float32")
