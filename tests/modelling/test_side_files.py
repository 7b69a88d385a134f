"""Which file is whose side file, and labels as people have them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from Modelling import quantise
from Modelling.network.checkpoint import SideFile, open_checkpoint, sha256_of, write_side_file
from Modelling.network.labels import read_labels
from Modelling.predict_cnn import CheckpointError, load_classifier


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


@pytest.fixture
def model(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )


def test_a_description_of_a_network_is_no_side_file_and_is_called_so(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.h5"
    model.save(path)
    architecture = model.to_json()
    path.with_suffix(".json").write_text(architecture)
    assert load_classifier(path).labels == ("0", "1", "2")
    assert "model.json is not used for model.h5: it describes a network" in caplog.text
    # Nor is it written over.
    assert quantise.main([str(path), "--labels", "a,b,c"]) == 0
    assert path.with_suffix(".json").read_text() == architecture
    assert (tmp_path / "model.h5.json").exists()
    assert load_classifier(path).labels == ("a", "b", "c")


def test_two_checkpoints_with_one_stem_have_a_side_file_each(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / "mine.h5", tmp_path / "mine.keras"
    model.save(first)
    model.layers[-1].set_weights([weight + 1 for weight in model.layers[-1].get_weights()])
    model.save(second)
    write_side_file(first, SideFile(sha256_of(first), ("a", "b", "c"), (8, 8, 3)))
    assert (tmp_path / "mine.json").exists()
    with caplog.at_level(logging.WARNING):
        assert open_checkpoint(second, patience=0).side is None
    assert "it is of mine.h5" in caplog.text
    write_side_file(second, SideFile(sha256_of(second), ("x", "y", "z"), (8, 8, 3)))
    assert (tmp_path / "mine.keras.json").exists()
    for path, labels in ((first, ("a", "b", "c")), (second, ("x", "y", "z"))):
        side = open_checkpoint(path, patience=0).side
        assert side is not None
        assert side.labels == labels


def test_two_checkpoints_with_one_stem_keep_their_compiled_forms(
    model: Any, tmp_path: Path
) -> None:
    paths = [tmp_path / "mine.h5", tmp_path / "mine.keras"]
    for path in paths:
        model.layers[-1].set_weights([weight + 1 for weight in model.layers[-1].get_weights()])
        model.save(path)
    for path in paths:
        assert quantise.main([str(path), "--labels", "a,b,c"]) == 0
    for path in paths:
        side = open_checkpoint(path, patience=0).side
        assert side is not None
        engine = side.engines["float32"]
        assert sha256_of(tmp_path / engine.file) == engine.sha256


def test_the_side_file_of_the_whole_name_comes_first_and_must_match(
    model: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mine.keras"
    model.save(path)
    write_side_file(path, SideFile(sha256_of(path), ("a", "b", "c"), (8, 8, 3)))
    own = tmp_path / "mine.keras.json"
    content = json.loads(path.with_suffix(".json").read_text())
    own.write_text(json.dumps(content | {"labels": ["x", "y", "z"]}))
    side = open_checkpoint(path, patience=0).side
    assert side is not None
    assert side.labels == ("x", "y", "z")
    own.write_text(json.dumps(content | {"sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"does not match its side file mine\.keras\.json"):
        open_checkpoint(path, patience=0)
    own.write_text("{}")
    with pytest.raises(CheckpointError, match="sha256 is missing"):
        open_checkpoint(path, patience=0)


def test_a_pair_that_does_not_match_is_refused_where_no_other_file_owns_it(
    model: Any, tmp_path: Path
) -> None:
    path = tmp_path / "mine.keras"
    model.save(path)
    write_side_file(path, SideFile("0" * 64, ("a", "b", "c"), (8, 8, 3)))
    (tmp_path / "mine.onnx").write_bytes(b"another")
    with pytest.raises(CheckpointError, match="does not match its side file"):
        open_checkpoint(path, patience=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "cat\n\nwild dog\r\nbird\n"),
        ("labels.txt", "\ufeff0 cat\n1 wild dog\n2 bird\n"),
        ("LABELS.TXT", "0: cat\n1: wild dog\n2: bird"),
        ("classes.names", "cat\nwild dog\nbird"),
        ("labels.json", '["cat", "wild dog", "bird"]'),
        ("index.json", '{"0": "cat", "2": "bird", "1": "wild dog"}'),
        ("index.json", '{"0": ["n1", "cat"], "1": ["n2", "wild dog"], "2": ["n3", "bird"]}'),
    ],
)
def test_labels_come_from_the_usual_files(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert read_labels(str(path)) == ["cat", "wild dog", "bird"]


def test_labels_on_the_command_line_may_have_blanks() -> None:
    assert read_labels("cat, wild dog ,bird") == ["cat", "wild dog", "bird"]
    assert read_labels("1st class,2nd") == ["1st class", "2nd"]


@pytest.mark.parametrize("content", ["{", '{"0": "a", "2": "b"}', "3", '{"a": "b"}', "[" * 99_999])
def test_a_file_of_no_labels_is_refused_in_one_line(
    content: str, model: Any, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "mine.keras"
    model.save(path)
    labels = tmp_path / "labels.json"
    labels.write_text(content)
    assert quantise.main([str(path), "--labels", str(labels)]) == 2
    error = capsys.readouterr().err
    assert "not a file of labels" in error
    assert error.count("\n") == 1
    assert quantise.main([str(path), "--labels", str(tmp_path / "missing.txt")]) == 2


def test_two_classes_may_have_one_name_as_in_imagenet(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.keras"
    model.save(path)
    assert quantise.main([str(path), "--labels", "crane, crane, maillot"]) == 0
    assert load_classifier(path).labels == ("crane", "crane", "maillot")


def test_a_temperature_changes_how_sure_answers_are_and_nothing_else(
    model: Any, tmp_path: Path
) -> None:
    import numpy as np

    path = tmp_path / "mine.keras"
    model.save(path)
    images = np.random.default_rng(0).random((20, 8, 8, 3), np.float32)
    plain = load_classifier(path).probabilities(images)
    write_side_file(path, SideFile(sha256_of(path), ("a", "b", "c"), (8, 8, 3), temperature=3.0))
    cooled = load_classifier(path).probabilities(images)
    logits = np.log(plain) / 3
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(cooled, expected, atol=1e-5)
