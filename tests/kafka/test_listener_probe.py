"""A look at listeners ends in its time, whatever they do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from MessageBroker.kafka.faults import Fault, Finding
from MessageBroker.kafka.listener_probe import LOOK_SECONDS, MARGIN_SECONDS, look_at

# On a busy machine; what several looks one after the other take is more.
IN_TIME_SECONDS = LOOK_SECONDS + MARGIN_SECONDS + 1.0


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Somebody takes one connection, and answers it."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve)
        serving.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    serving.join()


def look_in_time(servers: str) -> Finding | None:
    began = time.monotonic()
    finding = look_at(servers, {})
    assert time.monotonic() - began < IN_TIME_SECONDS
    return finding


def test_one_that_answers_byte_by_byte_is_silent() -> None:
    def drip(connection: socket.socket) -> None:
        answer = struct.pack(">ii", 100, 1) + bytes(96)
        with contextlib.suppress(OSError):
            for each in answer:
                connection.sendall(bytes([each]))
                time.sleep(0.2)

    with listening(drip) as address:
        finding = look_in_time(address)

    assert finding == Finding(address, Fault.SILENT)


def test_several_that_say_nothing_take_no_longer_than_one() -> None:
    ends = threading.Event()

    def say_nothing(_connection: socket.socket) -> None:
        ends.wait(20)

    with (
        listening(say_nothing) as first,
        listening(say_nothing) as second,
        listening(say_nothing) as third,
    ):
        finding = look_in_time(f"{first},{second},{third}")
        ends.set()

    assert finding == Finding(first, Fault.SILENT)


def test_a_name_that_is_looked_up_in_vain_is_one_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver may take half a minute to say so."""
    answers = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        answers.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    finding = look_in_time("broker.example:9092")
    answers.set()

    assert finding == Finding("broker.example:9092", Fault.UNKNOWN_HOST)
