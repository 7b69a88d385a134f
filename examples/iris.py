"""Rows of numbers to a scikit-learn pipeline: which iris has these four measures (cm)?

    pip install scikit-learn
    python -m examples.iris                      # writes iris.json, the trained weights
    python model_server_sub.py --predictor examples.iris:Iris --checkpoint iris.json

A message is a JSON object: {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4,
"petal_width": 0.2}.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from Modelling.predictor import Answer, Item

MEASURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


class Iris:
    """A logistic regression on four measures."""

    def __init__(self, checkpoint: Path | None, threads: int | None) -> None:
        """Fit it to the rows of a file that `main` wrote; to scikit-learn's without one."""
        text = rows_as_json() if checkpoint is None else checkpoint.read_text()
        rows = json.loads(text)
        self._labels = rows["labels"]
        self._pipeline: Pipeline = make_pipeline(StandardScaler(), LogisticRegression())
        self._pipeline.fit(np.array(rows["measures"]), np.array(rows["classes"]))
        self.version = f"iris@{sha256(text.encode()).hexdigest()[:12]}"

    def warm_up(self) -> None:
        """Predict once."""
        self.predict(np.ones((1, len(MEASURES))))

    def prepare_batch(self, items: Sequence[Item]) -> tuple[Any, list[str | None]]:
        """Read the measures of each."""
        rows: list[list[float]] = []
        errors: list[str | None] = []
        for item in items:
            try:
                row = json.loads(item.data)
                values = [float(row[name]) for name in MEASURES]
                if not all(map(math.isfinite, values)):
                    raise ValueError("a measure is not finite")
            except (ValueError, TypeError, KeyError, IndexError) as error:
                errors.append(f"no measures of an iris: {error!r}")
            else:
                rows.append(values)
                errors.append(None)
        return np.array(rows).reshape(-1, len(MEASURES)), errors

    def predict(self, batch: Any) -> list[Answer]:
        """Name the most probable kind of each."""
        return [
            {
                "label": self._labels[row.argmax()],
                "class_index": int(row.argmax()),
                "confidence": round(float(row.max()), 5),
            }
            for row in self._pipeline.predict_proba(batch)
        ]

    def close(self) -> None:
        """Hold nothing."""


def rows_as_json() -> str:
    """Write scikit-learn's 150 irises as JSON."""
    data = load_iris()
    return json.dumps(
        {
            "labels": data.target_names.tolist(),
            "measures": data.data.tolist(),
            "classes": data.target.tolist(),
        }
    )


if __name__ == "__main__":
    Path("iris.json").write_text(rows_as_json())
    sys.stdout.write("wrote iris.json\n")
