"""What is missing is named with the extra that brings it: this is the one place that knows.

The base installation serves on the embedded broker. Whatever needs more imports it inside
`needs(…)`, when it is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from DurableText.installation import NAME
from DurableText.installation.places import in_checkout

# Which extra of pyproject.toml brings a module, by the module's first name.
EXTRA_OF = {
    "confluent_kafka": "kafka",
    "google": "pubsub",
    "grpc": "pubsub",
    "tensorflow": "training",
    "keras": "training",
    "h5py": "training",
    "onnxruntime": "onnx",
    "onnx": "onnx",
    "redis": "redis",
    "hiredis": "redis",
    "psycopg": "postgres",
    "starlette": "page",
    "uvicorn": "page",
    "opentelemetry": "tracing",
    "pi_heif": "heic",
    "pytest": "conformance",
}


def how_to_get(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install '{'.' if in_checkout() else NAME}[{extra}]'"


@contextlib.contextmanager
def needs(what: str, error_class: type[Exception]) -> Iterator[None]:
    """Import in this what an extra brings; where it is missing, the error says how to get it.

    Args:
        what: needs it, for a person: "the broker kafka".
        error_class: of the caller's package; it is given the text.

    Raises:
        ModuleNotFoundError: no extra brings what is missing, so it is a defect.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = EXTRA_OF.get(module)
        if extra is None:
            raise
        raise error_class(
            f"{what} needs {error.name}, which is not installed: {how_to_get(extra)}"
        ) from error
