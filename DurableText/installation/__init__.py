"""What is installed here, where it keeps its state, and which extra brings what is missing.

The lowest of all packages: it knows none of the others, and costs next to nothing to import.
"""

NAME = "event-driven-model-serving"

__version__ = "0.3.0"

__all__ = ["NAME", "__version__"]
