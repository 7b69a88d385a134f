"""How many nodes a network has once each of its functions stands where it is called.

Whoever reads a file of ONNX or TensorFlow expands it so, in native code, and for ONNX while nothing
else in the process runs. A few functions that call each other twice are a thousand million nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from Modelling.errors import CheckpointError, shortened

# The largest networks for pictures have some ten thousand.
MAX_NODES = 1 << 18


def require_few_nodes(calls: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse functions that call themselves, or each other so often that it never ends.

    Args:
        calls: By the name of each function, and of the network itself, how often it calls which:
            functions, or operations, each of which is a node.

    Raises:
        CheckpointError: There is one.
    """
    called = {name: calls.keys() & found.keys() for name, found in calls.items()}
    try:
        order = list(TopologicalSorter(called).static_order())
    except CycleError as error:
        names = shortened(" calls ".join(error.args[1]))
        raise CheckpointError(f"its functions call themselves: {names}") from None
    nodes: dict[str, int] = {}
    for name in order:
        nodes[name] = sum(count * nodes.get(each, 1) for each, count in calls[name].items())
    most = max(nodes.values(), default=0)
    if most > MAX_NODES:
        raise CheckpointError(
            f"it has {most:,} nodes, with its functions where they are called: {MAX_NODES:,} are "
            "the most"
        )
