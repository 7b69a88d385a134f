"""Writes Kafka records by the wire protocol itself: names of headers may be any bytes.

The format: https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT_SECONDS = 30.0
PRODUCE_KEY, PRODUCE_VERSION = 0, 3
MAGIC = 2
# The polynomial of CRC-32C (Castagnoli), reversed.
CASTAGNOLI = 0x82F63B78


@dataclass(frozen=True)
class RawRecord:
    """One record; its key, value and headers are bytes or null, as on the wire."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()
    timestamp_delta: int = 0


def produce(address: str, topic: str, partition: int, records: Sequence[RawRecord]) -> None:
    """Write records as one batch, to the broker at `host:port`, which leads the partition."""
    batch = _batch(records, int(time.time() * 1000))
    name = topic.encode()
    body = struct.pack(">hhii", -1, -1, int(TIMEOUT_SECONDS * 1000), 1)
    body += struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, partition, len(batch)) + batch
    request = struct.pack(">hhih", PRODUCE_KEY, PRODUCE_VERSION, 1, -1) + body
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
        answer = connection.recv(size, socket.MSG_WAITALL)
    # Correlation id, number of topics, name, number of partitions, partition; then the error.
    place = 4 + 4 + 2 + len(name) + 4 + 4
    (error,) = struct.unpack(">h", answer[place : place + 2])
    if error:
        raise RuntimeError(f"the broker refused the batch: error {error}")


def _batch(records: Sequence[RawRecord], timestamp: int) -> bytes:
    count = len(records)
    body = struct.pack(">hiqqqhii", 0, count - 1, timestamp, timestamp, -1, -1, -1, count)
    body += b"".join(_record(number, each) for number, each in enumerate(records))
    head = struct.pack(">qi", 0, 4 + 1 + 4 + len(body)) + struct.pack(">ib", -1, MAGIC)
    return head + struct.pack(">I", _crc32c(body)) + body


def _record(number: int, record: RawRecord) -> bytes:
    body = b"\0" + _varint(record.timestamp_delta) + _varint(number)
    body += _bytes(record.key) + _bytes(record.value) + _varint(len(record.headers))
    body += b"".join(_bytes(name) + _bytes(value) for name, value in record.headers)
    return _varint(len(body)) + body


def _bytes(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Write a number zigzag-encoded, seven bits a byte."""
    left = ((value << 1) ^ (value >> 63)) & 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
