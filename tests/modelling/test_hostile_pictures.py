"""A picture that crashes or hangs its decoder costs itself: not the server, not its neighbours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from Modelling.data_preparation import ImageError, Preparation, decode_image, encode_npy
from Modelling.errors import PreparationStoppedError
from Modelling.images import headers
from Modelling.images.batch_preparation import prepare_batch
from Modelling.images.decoding_pool import DecodingPool
from Modelling.images.digits import DIGITS
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, RESIZE
from tests.modelling import hostile
from tests.waiting import wait_until

Encode = Callable[..., bytes]

# Seconds of CPU for a picture, in these tests.
ROOT = DEFAULT_CHECKPOINT.parent.parent.parent
SMALL = Preparation((8, 8, 3), RESIZE)
BUDGET = 0.3


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A picture of some ten kilobytes that takes seconds, under every limit that a header shows."""
    return hostile.jpeg_of_many_scans(6000, 80)


@pytest.fixture
def pool() -> Iterator[DecodingPool]:
    with DecodingPool(2, image_seconds=BUDGET) as pool:
        yield pool


def prepared(pool: DecodingPool, *datas: bytes) -> list[str]:
    """What became of each: `good`, or the reason."""
    answers = pool.prepare(datas, [None] * len(datas), SMALL)
    return [answer.reason if isinstance(answer, ImageError) else "good" for answer in answers]


def test_a_lossless_jpeg_is_decoded_without_a_shortcut() -> None:
    # In a process of its own: where it was told to scale, memory was overwritten.
    code = (
        "import sys; from Modelling.data_preparation import decode_image\n"
        "data = sys.stdin.buffer.read()\n"
        "for _ in range(5): assert (decode_image(data, enough=512) == 128).all()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=hostile.lossless_jpeg(1600, 1200), check=False
    )
    assert run.returncode == 0


def test_only_codings_that_are_known_to_be_scaled_are_scaled(encode: Encode) -> None:
    picture = Image.new("L", (64, 64), 9)
    for options in ({}, {"progressive": True}):
        assert headers.jpeg_can_be_scaled(encode(picture, "JPEG", **options))
    plain = encode(picture, "JPEG")
    frame = plain.index(b"\xff\xc0")
    behind = frame + 2 + int.from_bytes(plain[frame + 2 : frame + 4], "big")
    for coding in sorted(headers.CODINGS - headers.SCALABLE_CODINGS):
        changed = plain[: frame + 1] + bytes([coding]) + plain[frame + 2 :]
        assert not headers.jpeg_can_be_scaled(changed)
        # Behind another frame, in front of it, or behind bytes that are no marker.
        other = b"\xff" + bytes([coding]) + plain[frame + 2 : behind]
        assert not headers.jpeg_can_be_scaled(plain[:frame] + other + plain[frame:])
        assert not headers.jpeg_can_be_scaled(plain[:behind] + other + plain[behind:])
    assert not headers.jpeg_can_be_scaled(plain[:frame] + b"\0" + plain[frame:])
    assert not headers.jpeg_can_be_scaled(plain[:frame])


def test_a_picture_that_takes_more_memory_than_it_may_costs_itself(encode: Encode) -> None:
    """The budget is the system's: it holds whatever a header did not show."""
    small, large = (encode(Image.new("RGB", (side, side)), "PNG") for side in (64, 6000))
    code = (
        "import sys\n"
        "from Modelling.images import decoding_worker\n"
        "from Modelling.images.batch_preparation import prepare_or_error\n"
        "from Modelling.data_preparation import Preparation\n"
        "data = sys.stdin.buffer.read()\n"
        f"small, large = data[:{len(small)}], data[{len(small)}:]\n"
        "preparation = Preparation((8, 8, 3), 'resize')\n"
        "prepare_or_error(small, None, preparation)  # imports\n"
        "decoding_worker.ADDRESS_SPACE = 64 << 20\n"
        "decoding_worker._limit_memory()\n"
        "for each in (large, small): print(prepare_or_error(each, None, preparation))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=small + large, capture_output=True, check=True
    )
    first, second = run.stdout.decode().split("\n", 1)
    assert first == "image that does not fit into memory"
    assert second.startswith("Prepared(")


def test_a_jpeg_of_thousands_of_scans_is_refused_by_its_header() -> None:
    data = hostile.jpeg_of_many_scans(2000, 2000)
    started = time.process_time()
    with pytest.raises(ImageError, match="too many scans: 2,0"):
        decode_image(data, enough=56)
    assert time.process_time() - started < 0.5


def test_a_png_whose_exif_repeats_its_header_is_a_picture(encode: Encode) -> None:
    data = hostile.png_of_repeated_exif_headers(encode(np.full((8, 8), 7, np.uint8), "PNG"), 10**6)
    started = time.process_time()
    assert (decode_image(data) == 7).all()
    assert time.process_time() - started < 0.5


def test_a_picture_that_takes_too_long_costs_its_budget_and_nothing_else(
    slow: bytes, pool: DecodingPool
) -> None:
    shades = range(2, 42)  # an array of nothing but 0 and 1 is a mask
    good = [encode_npy(np.full((9, 9), shade, np.uint8)) for shade in shades]
    before = os.times()
    answers = pool.prepare([*good[:20], slow, *good[20:]], [None] * 41, SMALL)
    after = os.times()
    assert isinstance(answers[20], ImageError)
    assert str(answers[20]) == f"took too long: more than {BUDGET} s of CPU"
    del answers[20]
    for shade, answer in zip(shades, answers, strict=True):
        assert not isinstance(answer, ImageError)
        assert np.allclose(answer.pixels, shade / 255)
    spent = sum(after[:4]) - sum(before[:4])
    assert spent < BUDGET + 6  # with the starts of three processes, on a slow machine


def test_many_of_them_cost_as_many_budgets(slow: bytes, pool: DecodingPool) -> None:
    good = encode_npy(np.zeros((9, 9), np.uint8))
    assert prepared(pool, slow, good, slow, good, good, slow) == [
        "took too long", "good", "took too long", "good", "good", "took too long",
    ]  # fmt: skip


def at_work(pool: DecodingPool) -> int:
    """Wait until a picture is being decoded; the number of that process."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in list(pool._processes):
            if process.pictures is not None and process.died_at() is not None:
                return process._process.pid
        time.sleep(0.005)
    raise AssertionError("no process has begun")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "crashed its decoder: SIGSEGV"),
        (signal.SIGABRT, "crashed its decoder: SIGABRT"),
        (signal.SIGKILL, "ended its decoder, which was killed"),
    ],
)
def test_a_picture_on_which_the_decoder_dies_twice_is_blamed(
    number: int, reason: str, slow: bytes
) -> None:
    with DecodingPool(1, image_seconds=60) as pool:
        answers: list[object] = []
        good = encode_npy(np.zeros((9, 9), np.uint8))
        thread = threading.Thread(
            target=lambda: answers.extend(pool.prepare([slow, good, good], [None] * 3, SMALL))
        )
        thread.start()
        first = at_work(pool)
        os.kill(first, number)
        while (second := at_work(pool)) == first:
            time.sleep(0.005)
        os.kill(second, number)
        thread.join(60)
        assert reason in str(answers[0])
        assert [isinstance(answer, ImageError) for answer in answers] == [True, False, False]


def test_a_decoder_that_somebody_kills_once_costs_no_picture(slow: bytes) -> None:
    with DecodingPool(1, image_seconds=60) as pool:
        answers: list[object] = []
        thread = threading.Thread(
            target=lambda: answers.extend(pool.prepare([slow], [None], SMALL))
        )
        thread.start()
        os.kill(at_work(pool), signal.SIGKILL)
        thread.join(120)
        assert [isinstance(answer, ImageError) for answer in answers] == [False]


@pytest.mark.timeout(60)
def test_a_decoder_that_never_gets_so_far_as_to_begin_is_not_started_for_ever() -> None:
    """What this model takes of one picture is more than a decoder may have, in any process."""
    gigabyte = Preparation((1 << 14, 1 << 14, 1), RESIZE)
    with DecodingPool(1, image_seconds=60) as pool:
        [answer] = pool.prepare([encode_npy(np.zeros((8, 8), np.uint8))], [None], gigabyte)
    assert isinstance(answer, ImageError)
    assert "crashed its decoder" in str(answer)


def test_a_decoder_that_dies_while_it_has_nothing_to_do_is_replaced(pool: DecodingPool) -> None:
    good = encode_npy(np.zeros((9, 9), np.uint8))
    assert prepared(pool, good, good) == ["good"] * 2
    for process in pool._processes:
        process._process.kill()
        process._process.wait()
    assert prepared(pool, good, good) == ["good"] * 2


def test_who_shall_end_does_not_wait_for_slow_pictures(slow: bytes) -> None:
    ending = threading.Event()
    with DecodingPool(1, image_seconds=600, give_up=ending.is_set) as pool:
        threading.Timer(0.5, ending.set).start()
        started = time.monotonic()
        with pytest.raises(PreparationStoppedError):
            pool.prepare([slow] * 50, [None] * 50, SMALL)
        assert time.monotonic() - started < 20
        # Nothing goes on behind its back.
        assert not pool._processes


def test_closing_ends_whoever_waits(slow: bytes) -> None:
    pool = DecodingPool(1, image_seconds=600)
    refused = []

    def wait() -> None:
        try:
            pool.prepare([slow] * 50, [None] * 50, SMALL)
        except PreparationStoppedError:
            refused.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    at_work(pool)
    pool.close()
    thread.join(20)
    assert refused == [True]
    with pytest.raises(PreparationStoppedError):
        pool.prepare([b""], [None], SMALL)


def test_the_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal, numpy as np\n"
        "from Modelling.images.decoding_pool import DecodingPool\n"
        "from Modelling.data_preparation import Preparation, encode_npy\n"
        "pool = DecodingPool(2)\n"
        "data = encode_npy(np.zeros((9, 9), np.uint8))\n"
        "pool.prepare([data] * 2, [None] * 2, Preparation((8, 8, 3)))\n"
        "print(*(process._process.pid for process in pool._processes), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    pids = [int(pid) for pid in run.stdout.split()]
    assert len(pids) == 2, run.stderr
    wait_until(lambda: not any(map(alive, pids)), "both have ended")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what glibc keeps: Linux")
def test_memory_of_one_photograph_serves_the_next(encode: Encode) -> None:
    photograph = encode(np.zeros((1200, 1600, 3), np.uint8), "JPEG")
    with DecodingPool(1) as pool:
        faults = []
        for _ in range(5):
            assert prepared(pool, photograph) == ["good"]
            (process,) = pool._processes
            status = Path(f"/proc/{process._process.pid}/stat").read_text()
            faults.append(int(status.rpartition(")")[2].split()[7]))
    assert faults[-1] - faults[-2] < 200, faults  # of 4 KiB; its pixels alone take 460


def test_processes_and_this_thread_prepare_alike(
    mnist: tuple[np.ndarray, np.ndarray], encode: Encode, pool: DecodingPool
) -> None:
    digit = mnist[0][0]
    datas = [
        encode_npy(digit),
        encode_npy(255 - digit),
        b"no image",
        encode(np.kron(digit, np.ones((5, 5), np.uint8)), "JPEG"),
        encode_npy(digit.astype(np.float32) / 4),
        encode(np.zeros((30, 30), np.uint8), "PNG"),
    ]
    whites = [None, None, None, None, 64.0, None]
    for preparation in (Preparation((28, 28, 1), DIGITS), SMALL):
        here, errors = prepare_batch(datas, preparation, whites)
        there, their_errors = prepare_batch(datas, preparation, whites, pool)
        assert np.array_equal(here, there)
        assert [str(error) for error in errors] == [str(error) for error in their_errors]
