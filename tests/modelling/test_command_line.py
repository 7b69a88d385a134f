"""`predict_cnn` on the command line: what it prints, and the picture that it draws."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Modelling import predict_cnn
from Modelling.data_preparation import counted_by_kind
from Modelling.images.show import Row, draw_predictions
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT

ROOT = DEFAULT_CHECKPOINT.parent.parent.parent
DIGITS = tuple("0123456789")


@pytest.fixture
def photo(seven: Image.Image, tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    seven.save(path)
    return path


def row(name: str = "photo.png", given: np.ndarray | None = None) -> Row:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(10)).astype(np.float32)
    if given is None:
        given = rng.integers(0, 256, (40, 30), np.uint8)
    return Row(name, given, rng.random((28, 28, 1), np.float32), probabilities)


def drawn(rows: list[Row], file: Path, labels: tuple[str, ...] = DIGITS) -> np.ndarray:
    """Draw a picture, let no warning pass, and return its pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_predictions(rows, labels, file)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def test_it_predicts_files_and_says_what_is_none(photo: Path, tmp_path: Path, capsys: Any) -> None:
    note = tmp_path / "note.txt"
    note.write_text("buy milk")
    assert predict_cnn.main([str(photo)]) == 0
    assert predict_cnn.main([str(photo), str(note), str(tmp_path / "missing.png")]) == 1
    output = capsys.readouterr().out
    assert "not an image" in output
    assert "No such file" in output
    assert output.count(" 7 ") == 2


def test_a_folder_stands_for_the_images_in_it(photo: Path, tmp_path: Path, capsys: Any) -> None:
    inner = tmp_path / "scans" / "today"
    inner.mkdir(parents=True)
    photo.rename(inner / "seven.PNG")
    (inner / "note.txt").write_text("buy milk")
    assert predict_cnn.main([str(tmp_path / "scans")]) == 0
    assert capsys.readouterr().out.count(" 7 ") == 1
    (tmp_path / "empty").mkdir()
    assert predict_cnn.main([str(tmp_path / "empty")]) == 1
    assert "a folder without images" in capsys.readouterr().out


def test_a_name_that_is_no_text_is_shown_escaped(photo: Path, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(odd)).write_bytes(photo.read_bytes())
    command = [sys.executable, "-m", "Modelling.predict_cnn", odd, "--show", tmp_path / "out.png"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
    assert rb"caf\udce9.png" in run.stdout
    assert (tmp_path / "out.png").exists()


def test_the_picture_shows_the_image_as_given_and_as_seen(photo: Path, tmp_path: Path) -> None:
    assert predict_cnn.main([str(photo), "--show", str(tmp_path / "out.png")]) == 0
    picture = np.asarray(Image.open(tmp_path / "out.png").convert("L")).astype(int)
    assert min(picture.shape) > 180
    # Ink on white at the left, light ink on black beside it.
    left, middle = picture[30:, : picture.shape[1] // 4], picture[:, picture.shape[1] // 4 :]
    assert (left < 60).mean() > 0.02
    assert (middle < 10).mean() > 0.08


def test_without_a_picture_no_image_is_decoded_a_second_time(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int | None] = []
    decode = predict_cnn.decode_image

    def spy(data: bytes, **options: Any) -> np.ndarray:
        sizes.append(options["enough"])
        return decode(data, **options)

    monkeypatch.setattr(predict_cnn, "decode_image", spy)
    assert predict_cnn.main([str(photo)]) == 0
    assert sizes == []
    assert predict_cnn.main([str(photo), "--show", str(tmp_path / "out.png")]) == 0
    assert sizes == [predict_cnn.SHOWN_SIDE]


@pytest.mark.parametrize(
    ("suffix", "expected"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")]
)
def test_the_pictures_suffix_names_its_format(
    suffix: str, expected: str, photo: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"out.{suffix}"
    assert predict_cnn.main([str(photo), "--show", str(file)]) == 0
    with Image.open(file) as image:
        assert image.format == expected


def test_a_suffix_of_no_picture_is_refused_before_anything_is_predicted(
    photo: Path, tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        predict_cnn.main([str(photo), "--show", str(tmp_path / "out.txt")])
    captured = capsys.readouterr()
    assert ".png" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("threads", ["0", "99999"])
def test_a_number_of_threads_that_cannot_be_had_is_refused(
    threads: str, photo: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        predict_cnn.main([str(photo), "--threads", threads])
    assert f"{threads!r} is not a number of threads from 1 to 1024" in capsys.readouterr().err
    with pytest.raises(ValueError, match=f"from 1 to 1024, not {threads}"):
        predict_cnn.load_classifier(threads=int(threads))


@pytest.mark.parametrize(
    "kind",
    [np.bool_, np.uint8, np.uint16, np.int32, np.float16, np.float32, np.float64],
)
@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_an_array_of_any_type_is_drawn_as_it_looks(
    kind: type, channels: tuple[int, ...], tmp_path: Path
) -> None:
    half = np.zeros((20, 20, *channels), np.float64)
    half[:10] = 1
    if channels == (4,):
        half[..., 3] = 1
    white = {np.bool_: 1, np.uint8: 255, np.uint16: 65_535, np.int32: 255, np.float64: 255}
    picture = drawn([row(given=(half * white.get(kind, 1)).astype(kind))], tmp_path / "out.png")
    column = picture[:, 100].mean(1)
    assert (column > 250).sum() > 60
    assert (column < 5).sum() > 60


@pytest.mark.parametrize(
    "name", ["a $x$ b $.png", "$\\frac{$.png", "数字.png", "\udce9.png", "a\nb.png"]
)
def test_a_name_of_any_characters_is_drawn_without_a_word(name: str, tmp_path: Path) -> None:
    drawn([row(name)], tmp_path / "out.png", (name.replace("\udce9", "?"), *DIGITS[1:]))


def test_many_images_make_a_picture_that_can_be_opened(tmp_path: Path) -> None:
    picture = drawn([row(f"{index}.png") for index in range(60)], tmp_path / "out.png")
    height, width = picture.shape[:2]
    assert max(height, width) < 6000
    assert 0.4 < height / width < 2.5


def test_names_with_line_breaks_and_escapes_are_shown_by_their_codes(
    seven: Image.Image, tmp_path: Path, capsys: Any
) -> None:
    seven.save(tmp_path / "a\n\x1b[31mb.png")
    assert predict_cnn.main([str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "a\\n\\x1b[31mb.png" in output
    assert "\x1b" not in output


def test_what_macos_puts_beside_pictures_is_none(
    seven: Image.Image, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "__MACOSX").mkdir()
    seven.save(tmp_path / "photo.JFIF", "JPEG")
    for name in ("._photo.png", "__MACOSX/photo.png"):
        (tmp_path / name).write_bytes(b"resource fork")
    assert predict_cnn.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "photo.JFIF" in lines[2]


def test_skipped_files_are_counted_by_kind() -> None:
    files = [Path(name) for name in ("a.txt", "b.TXT", "c.mov", "d", "e.\x1b")]
    assert counted_by_kind(files) == "2 .txt, 1 .mov, 1 without suffix, 1 .\\x1b"


def test_a_file_without_an_end_is_not_read_to_it(
    photo: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_cnn, "MAX_FILE_BYTES", photo.stat().st_size)
    assert predict_cnn.main(["/dev/zero", str(photo)]) == 1
    said = capsys.readouterr().out
    assert "/dev/zero" in said
    assert "not predicted: file of more than" in said
    assert len(said.splitlines()) == 4
