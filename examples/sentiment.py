"""Short texts: how friendly is what somebody wrote? A message is the text, as UTF-8.

    python model_server_sub.py --predictor examples.sentiment:Sentiment

It counts words, and is here to be replaced: the shape of a predictor for texts is what it shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from Modelling.predictor import Answer, Item

FRIENDLY = frozenset(
    [
        "excellent",
        "fine",
        "friendly",
        "good",
        "great",
        "happy",
        "like",
        "love",
        "nice",
        "thanks",
        "well",
    ]
)
UNFRIENDLY = frozenset(
    [
        "angry",
        "awful",
        "bad",
        "broken",
        "hate",
        "late",
        "never",
        "poor",
        "slow",
        "terrible",
        "worst",
    ]
)
NEGATIONS = frozenset(("no", "not", "never", "hardly"))
MAX_CHARACTERS = 2000


class Sentiment:
    """Words that speak for and against."""

    version = "sentiment@1"

    def __init__(self, checkpoint: Path | None, threads: int | None) -> None:
        """Need nothing."""

    def warm_up(self) -> None:
        """Need nothing."""

    def prepare_batch(self, items: Sequence[Item]) -> tuple[list[list[str]], list[str | None]]:
        """Split each text into words."""
        texts: list[list[str]] = []
        errors: list[str | None] = []
        for item in items:
            try:
                words = re.findall(r"[a-z']+", item.data.decode().lower())
            except UnicodeDecodeError:
                errors.append("the text is not UTF-8")
                continue
            if not words or len(item.data) > MAX_CHARACTERS:
                errors.append("the text has no words, or too many")
                continue
            texts.append(words)
            errors.append(None)
        return texts, errors

    def predict(self, batch: list[list[str]]) -> list[Answer]:
        """Weigh the words of each text; there is no class index where nobody counts classes."""
        return [self._answer(words) for words in batch]

    def close(self) -> None:
        """Hold nothing."""

    def _answer(self, words: list[str]) -> Answer:
        score = 0
        for before, word in zip(["", *words], words, strict=False):
            weight = (word in FRIENDLY) - (word in UNFRIENDLY)
            score += -weight if before in NEGATIONS else weight
        label = "friendly" if score > 0 else "unfriendly" if score < 0 else "neutral"
        return {"label": label, "score": score, "words": len(words)}
