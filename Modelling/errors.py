"""The two errors of this package. Their text is one line that says what is wrong and what to do."""


class ImageError(ValueError):
    """Raised when bytes are no image that can be classified; the text is the reason."""


class CheckpointError(Exception):
    """Raised when a checkpoint cannot be used: missing, damaged, unsafe, or not an image model."""
