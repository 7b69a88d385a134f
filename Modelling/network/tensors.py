"""What a network of another framework takes and gives, and which of several is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from Modelling.errors import CheckpointError, shortened
from Modelling.network.side_file import SideFile

# Names of tensors in an error.
MOST_NAMED = 8

# What is served of several, if the side file names no other.
SIGNATURE = "serving_default"

FLOATS = (np.float32, np.float16, np.float64)


@dataclass(frozen=True)
class Tensor:
    """What a network takes or gives.

    Attributes:
        name: As the file says.
        shape: Its sizes; None for one that is open.
        dtype: Of its numbers; None for what is no tensor of numbers.
        kind: What it is then, as the runtime calls it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: Any
    kind: str = "no numbers"

    def __str__(self) -> str:
        kind = np.dtype(self.dtype).name if self.dtype else self.kind
        sizes = ", ".join("N" if size is None else str(size) for size in self.shape)
        return f"{self.name} {kind} ({sizes})"


def only_input(inputs: Sequence[Tensor]) -> Tensor:
    """Return the one input that pictures go into.

    Raises:
        CheckpointError: There are several, or none, or it takes no numbers, or nothing.
    """
    if len(inputs) != 1:
        raise CheckpointError(
            f"it has {len(inputs)} inputs, {_named(inputs)}: one, for images, is needed; give the "
            "others their values when you export it"
        )
    if inputs[0].dtype not in (*FLOATS, np.uint8):
        raise CheckpointError(f"its input {inputs[0]} takes no pixels: float or uint8 is needed")
    if 0 in inputs[0].shape:
        raise CheckpointError(
            f"its input {inputs[0]} holds nothing: export it with a batch that is open, or of one"
        )
    return inputs[0]


def chosen_output(outputs: Sequence[Tensor], side: SideFile | None) -> Tensor:
    """Return the output with the classes: the one that the side file names, or the only fit one.

    Raises:
        CheckpointError: There is none, or several; the text says which can be chosen.
    """
    wanted = side.output if side else None
    floats = [each for each in outputs if each.dtype in FLOATS and wanted in (None, each.name)]
    for fits in (_has_classes, _may_have_classes):
        fit = [each for each in floats if fits(each.shape)]
        if len(fit) == 1:
            return fit[0]
        if fit:
            break
    how = f"its side file chooses {wanted!r}: " if wanted else ""
    raise CheckpointError(
        f"{how}it has the outputs {_named(outputs)}: one of float (N, classes) is needed; where "
        'several are, choose by "output": "NAME" in the side file'
    )


def chosen_signature(names: Sequence[str], side: SideFile | None) -> str:
    """Return the signature that is served: the side file's, else the usual one, else the only one.

    Raises:
        CheckpointError: There is none such; the text says which can be chosen.
    """
    wanted = side.signature if side else None
    if wanted in names:
        return str(wanted)
    if wanted is None and (SIGNATURE in names or len(names) == 1):
        return SIGNATURE if SIGNATURE in names else names[0]
    if not names:
        raise CheckpointError("it has no signature: save it with `signatures=`, or `model.export`")
    raise CheckpointError(
        f"it has no signature {shortened(wanted or SIGNATURE)}, but {shortened(', '.join(names))}: "
        'choose by "signature": "NAME" in the side file'
    )


def _has_classes(shape: tuple[int | None, ...]) -> bool:
    return len(shape) == 2


def _may_have_classes(shape: tuple[int | None, ...]) -> bool:
    """Tell whether outputs may be (N, classes) but for axes of one; of a shape that is not told."""
    return sum(size != 1 for size in shape[1:]) <= 1


def _named(tensors: Sequence[Tensor]) -> str:
    more = f" and {len(tensors) - MOST_NAMED} more" if len(tensors) > MOST_NAMED else ""
    return shortened(", ".join(map(str, tensors[:MOST_NAMED])) + more)
