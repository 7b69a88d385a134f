"""Pictures of what goes round: small ones, and what the model saw.

They are decoded as the model server does it, in a process of their own with a budget of time and
memory: what strangers publish must not bring the page down either.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from MessageBroker import Message
from Modelling.data_preparation import Preparation, preparation_of
from Modelling.errors import CheckpointError, PreparationStoppedError
from Modelling.images.decoding_pool import DecodingPool
from Modelling.images.pixels import Pixels
from Modelling.images.resizing import CROP_ANTIALIASED
from Modelling.network.checkpoint import read_side_file
from Pipeline.events import image_origin

# Pixels of either side of a small picture.
SMALL_SIDE = 96
SMALL = Preparation((SMALL_SIDE, SMALL_SIDE, 3), resize=CROP_ANTIALIASED)
# Images that were published lately, to show beside their results: of 200 a second the last ten
# seconds.
MAX_IMAGES = 2000
MAX_IMAGES_BYTES = 32 << 20
# A photograph of more bytes is not kept.
MAX_IMAGE_BYTES = 1 << 20
# Pictures that were made, as PNG: some kilobytes each.
MAX_MADE = 1000


class Pictures:
    """Keeps images that were published lately, and makes pictures. Its methods are for any thread.

    Attributes:
        pool: where images are decoded.
    """

    def __init__(self, broker_name: str, checkpoint: Path) -> None:
        """Begin with none.

        Args:
            broker_name: of the broker from which the images come.
            checkpoint: of the model; its side file says what it makes of images.
        """
        self.pool = DecodingPool(1)
        self._broker_name = broker_name
        self._checkpoint = checkpoint
        self._lock = threading.Lock()
        self._images: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._made: OrderedDict[tuple[str, str], bytes | None] = OrderedDict()

    def close(self) -> None:
        """End the process that decodes."""
        self.pool.close()

    # ------------------------------------------------------------------ images by their ids

    def take_images(self, messages: Sequence[Message]) -> None:
        """Keep images that were just published."""
        for message in messages:
            self.keep(image_origin(message, self._broker_name).id, message.data)

    def keep(self, image_id: str, data: bytes) -> None:
        """Keep an image; the oldest go where there is no room."""
        if len(data) > MAX_IMAGE_BYTES:
            return
        with self._lock:
            self._bytes -= len(self._images.pop(image_id, b""))
            self._images[image_id] = data
            self._bytes += len(data)
            while len(self._images) > MAX_IMAGES or self._bytes > MAX_IMAGES_BYTES:
                self._bytes -= len(self._images.popitem(last=False)[1])

    def has(self, image_id: object) -> bool:
        """Tell whether an image is kept."""
        return image_id in self._images

    def small(self, image_id: str) -> bytes | None:
        """Return a small picture of an image that is kept, as PNG; None without."""
        return self._of("small", image_id, self._small_of)

    def seen(self, image_id: str) -> bytes | None:
        """Return an image that is kept as the model saw it, as PNG; None without."""
        return self._of("seen", image_id, self._seen_of)

    def of_letter(self, letter_id: str, data: bytes) -> bytes | None:
        """Return a small picture of what a dead letter holds, as PNG; None if it is none."""
        return self._of("letter", letter_id, self._small_of, data)

    def _of(
        self,
        kind: str,
        image_id: str,
        make: Callable[[bytes], bytes | None],
        data: bytes | None = None,
    ) -> bytes | None:
        with self._lock:
            if (kind, image_id) in self._made:
                return self._made[kind, image_id]
            data = self._images.get(image_id) if data is None else data
        if data is None:
            return None
        made = make(data)
        with self._lock:
            self._made[kind, image_id] = made
            while len(self._made) > MAX_MADE:
                self._made.popitem(last=False)
        return made

    # ------------------------------------------------------------------ making

    def _small_of(self, data: bytes) -> bytes | None:
        return self._made_of(data, SMALL)

    def _seen_of(self, data: bytes) -> bytes | None:
        try:
            side = read_side_file(self._checkpoint)
        except CheckpointError:
            return None
        return None if side is None else self._made_of(data, preparation_of(side))

    def _made_of(self, data: bytes, preparation: Preparation) -> bytes | None:
        try:
            (answer,) = self.pool.prepare([data], [None], preparation)
        except (PreparationStoppedError, OSError):
            return None
        return None if isinstance(answer, Exception) else encode_png(answer.pixels)


def encode_png(pixels: Pixels) -> bytes:
    """Encode (H, W, C) in [0, 1] as PNG; of other channels than 1 or 3 the first is shown."""
    from PIL import Image

    values = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    shown = values if values.shape[2] == 3 else values[..., 0]
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "png")
    return file.getvalue()
