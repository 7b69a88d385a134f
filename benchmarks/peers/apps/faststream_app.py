"""The model behind FastStream on confluent-kafka, as its documentation has it.

    SERVERS=… IMAGES=… RESULTS=… BATCH=256 LINGER_MS=5 \
        faststream run benchmarks.peers.apps.faststream_app:app

`BATCH=1`: one message a call. `LINGER_MS=0`, its default: each result is a request of its own.
`AckPolicy.ACK`: acknowledged when all is done, not at receipt.
"""

from __future__ import annotations

import os

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage

from benchmarks.peers.apps.digits import Digits
from benchmarks.peers.apps.results import result_of

IMAGES, RESULTS, BATCH = os.environ["IMAGES"], os.environ["RESULTS"], int(os.environ["BATCH"])

broker = KafkaBroker(os.environ["SERVERS"], linger_ms=int(os.environ["LINGER_MS"]), logger=None)
app = FastStream(broker, logger=None)
digits = Digits(threads=int(os.environ["THREADS"]))


if BATCH > 1:

    @broker.subscriber(
        IMAGES,
        group_id=f"faststream-{IMAGES}",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
        batch=True,
        max_records=BATCH,
    )
    @broker.publisher(RESULTS, batch=True)
    async def serve_batch(images: list[bytes], message: KafkaMessage) -> tuple[bytes, ...]:
        """Answer a batch."""
        headers = message.batch_headers
        answers = digits.classify(images)
        return tuple(
            result_of(each, *answer) for each, answer in zip(headers, answers, strict=True)
        )

else:

    @broker.subscriber(
        IMAGES,
        group_id=f"faststream-{IMAGES}",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.ACK,
    )
    @broker.publisher(RESULTS)
    async def serve(image: bytes, message: KafkaMessage) -> bytes:
        """Answer one image."""
        return result_of(message.headers, *digits.classify([image])[0])
