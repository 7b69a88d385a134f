"""Names of classes as people have them: on the command line, or in one of the usual files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from Modelling.errors import shortened
from Modelling.network.file_kinds import misnamed

# What a file of labels is called; other texts are the labels themselves.
FILE_SUFFIXES = (".txt", ".json", ".csv", ".names", ".labels")

# Bytes of a file of labels; ImageNet's 22,000 with their synonyms are one million.
MAX_BYTES = 16 << 20

# Teachable Machine numbers its lines: `0 cat`.
NUMBERED = re.compile(r"(\d+)[\s,:;]+(.*)")


def read_labels(text: str) -> list[str]:
    """Read labels: separated by commas, or from a file.

    Args:
        text: `cat,dog`, or the name of a file: one label a line, with its number before it or
            not; a JSON list; or a JSON object of numbers to labels, or to lists that end with
            them, as Keras' `imagenet_class_index.json`.

    Raises:
        ValueError: The file holds no labels.
        OSError: It cannot be read.
    """
    path = Path(text)
    if path.suffix.lower() not in FILE_SUFFIXES:
        return [label.strip() for label in text.split(",")]
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: more than {MAX_BYTES >> 20} MB are no file of labels")
    try:
        content = data.decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            return _from_json(json.loads(content))
        return _from_lines(content)
    except (ValueError, TypeError, RecursionError) as error:
        what = f"{shortened(error)}{misnamed(path)}"
        raise ValueError(f"{path}: not a file of labels: {what}") from None


def _from_json(content: Any) -> list[str]:
    if isinstance(content, list):
        return [str(label) for label in content]
    if not isinstance(content, dict):
        raise TypeError("it is neither a list nor an object")
    by_index = {int(key): value for key, value in content.items()}
    if sorted(by_index) != list(range(len(by_index))):
        raise ValueError("its keys are not the numbers of the classes, from 0")
    values = [by_index[i] for i in range(len(by_index))]
    return [str(value[-1] if isinstance(value, list) else value) for value in values]


def _from_lines(content: str) -> list[str]:
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    if lines and all(each and int(each[1]) == i for i, each in enumerate(numbered)):
        return [each[2] for each in numbered if each]
    return lines
