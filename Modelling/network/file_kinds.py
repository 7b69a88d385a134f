"""What a file holds by its first bytes, for whoever is told that it is not what its name says."""

from __future__ import annotations

from pathlib import Path

# Where they stand, what they are, whose they are, and the suffixes that go with them. A file of
# ONNX begins with its version: a field of one byte.
KINDS = (
    (0, b"\x89HDF\r\n\x1a\n", "HDF5, which Keras calls .h5", (".h5", ".hdf5")),
    (0, b"PK\x03\x04", "a zip archive, as .keras of Keras and .pt of PyTorch are", (".keras",)),
    (4, b"TFL3", "LiteRT's, which are called .tflite", (".tflite",)),
    (0, b"\x80", "a pickle, as .pkl and .joblib are, which is not loaded", ()),
    *((0, bytes((8, each)), "ONNX, which is called .onnx", (".onnx",)) for each in range(3, 32)),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it", ()),
    (
        0,
        b"version https://git-lfs",
        "the pointer that Git LFS keeps in its place: get the file itself, with `git lfs pull`",
        (),
    ),
    (0, b"<", "a page of the web, or XML: download the file itself", (".xml",)),
    (0, b"{", "a text, JSON", (".json",)),
)

# As many as the longest of these.
FIRST_BYTES = 32

# What a folder of TensorFlow's is judged by.
SAVED_MODEL = "saved_model.pb"

# What editors put before a text.
UTF8_MARK = b"\xef\xbb\xbf"

# How models that are no checkpoints can be served all the same.
OTHER_SUFFIXES = {
    ".pt": "export it with torch.onnx.export",
    ".pth": "export it with torch.onnx.export",
    ".pkl": "convert it to ONNX, or load it in Python of your own, with --predictor",
    ".joblib": "convert it to ONNX, or load it in Python of your own, with --predictor",
    ".safetensors": "load it in Python of your own, with --predictor",
    ".pb": "give the folder of the SavedModel that it stands in",
}


def misnamed(path: Path) -> str:
    """Tell what a file is if its name says something else, to be put behind an error; else ""."""
    judged = path / SAVED_MODEL if path.is_dir() else path
    if not judged.is_file():
        return ""
    try:
        with judged.open("rb") as file:
            first = file.read(FIRST_BYTES).removeprefix(UTF8_MARK)
    except OSError:
        return ""
    for place, magic, kind, suffixes in KINDS:
        if first.startswith(magic, place):
            return "" if path.suffix.lower() in suffixes else f"; by its first bytes it is {kind}"
    return ""


def advice_on(path: Path) -> str:
    """Tell what to do with a file of a suffix that no checkpoint has, as above."""
    advice = OTHER_SUFFIXES.get(path.suffix.lower())
    return f"; {advice}" if advice else ""
