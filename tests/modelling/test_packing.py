"""A packed network gives the same numbers as the network that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from Modelling.data_preparation import bundled_test_images
from Modelling.network import litert
from Modelling.network import quickest_form as trying
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, open_checkpoint
from Modelling.network.compiling import compile_float32, compile_int8
from Modelling.network.engine import LiteRTEngine, open_engine
from Modelling.network.packing import Packing, packable_convolutions, packed, packings_of
from Modelling.network.quickest_form import Runs, quickest_form
from Modelling.network.tflite_graph import TfliteGraph

Images = np.ndarray[Any, np.dtype[np.float32]]

SHIPPED = DEFAULT_CHECKPOINT.with_name("mnist_cnn_model.int8.tflite")


@pytest.fixture(scope="module")
def digits() -> Images:
    return (bundled_test_images()[0][:300, ..., None] / 255).astype(np.float32)


def answers(compiled: bytes, images: Images) -> Images:
    return LiteRTEngine(compiled, "int8").run(images)


def convolutions(layers: Any, shape: tuple[int, int, int], *sizes: tuple[Any, ...]) -> Any:
    import keras

    image = x = keras.Input(shape)
    for filters, kernel, strides in sizes:
        x = layers.Conv2D(filters, kernel, strides=strides, padding="same", activation="relu")(x)
    x = layers.Dense(3, activation="softmax", dtype="float32")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x)


def test_all_packings_of_the_shipped_network_give_the_same_answers(digits: Images) -> None:
    compiled = SHIPPED.read_bytes()
    expected = answers(compiled, digits)
    tried = [(number, each) for number in range(6) for each in packings_of(compiled, number)]
    assert (0, Packing(28, 2)) in tried
    assert (1, Packing(2)) in tried
    for number, each in tried:
        assert np.array_equal(answers(packed(compiled, number, each), digits), expected), each


@pytest.mark.parametrize(
    ("shape", "sizes", "least"),
    [
        # Filters of even and odd sizes, over one place and several, whose padding is aslant.
        ((12, 24, 3), [(6, (3, 5), (1, 2)), (7, (4, 4), 2), (8, (2, 3), 1)], 8),
        ((8, 8, 1), [(3, (4, 3), (2, 1)), (5, (7, 2), (1, 1))], 8),
    ],
)
def test_packings_of_any_network_give_the_same_answers(
    shape: tuple[int, int, int], sizes: list[tuple[Any, ...]], least: int
) -> None:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    images = np.random.default_rng(2).random((70, *shape), np.float32)
    compiled = compile_int8(convolutions(keras.layers, shape, *sizes), images)
    expected = answers(compiled, images)
    assert len(np.unique(expected)) > 70, "the network tells its images apart"
    found = [
        (number, each) for number in range(len(sizes)) for each in packings_of(compiled, number)
    ]
    assert len(found) >= least
    for number, each in found:
        assert np.array_equal(answers(packed(compiled, number, each), images), expected), each
    both = packed(packed(compiled, 0, found[0][1]), 1, packings_of(compiled, 1)[0])
    assert np.array_equal(answers(both, images), expected)


def test_only_eight_bits_are_packed() -> None:
    keras = pytest.importorskip("keras")
    model = convolutions(keras.layers, (8, 8, 1), (4, 3, 1))
    assert packings_of(compile_float32(model), 0) == []


class Form:
    """Runs a form, or what a test makes of it."""

    input_shape = (28, 28, 1)

    def __init__(self, run: Callable[[Images], Images]) -> None:
        self.run = run


def test_a_form_that_answers_otherwise_is_not_served() -> None:
    compiled = SHIPPED.read_bytes()

    def opened(form: bytes) -> Form:
        if form == compiled:
            return Form(LiteRTEngine(form, "int8", 1).run)
        return Form(lambda images: np.full((len(images), 10), 0.1, np.float32))

    assert quickest_form(compiled, opened) is compiled


def test_what_cannot_be_read_as_a_network_is_served_as_it_is() -> None:
    assert quickest_form(b"no network", lambda _: Form(lambda images: images)) == b"no network"


def test_a_slow_network_is_served_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "TRIAL_SECONDS", 0.0)
    compiled, opened = SHIPPED.read_bytes(), []

    def open_form(form: bytes) -> LiteRTEngine:
        opened.append(form)
        return LiteRTEngine(form, "int8", 1)

    assert quickest_form(compiled, open_form) is compiled
    assert opened == [compiled]


def test_once_the_time_is_spent_nothing_more_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([0.0, 0.0, 1.0])  # one image, all of them, the first form
    monkeypatch.setattr(trying, "_cpu_seconds", lambda *_: next(took))
    compiled, opened = SHIPPED.read_bytes(), []

    def open_form(form: bytes) -> LiteRTEngine:
        opened.append(form)
        return LiteRTEngine(form, "int8", 1)

    assert quickest_form(compiled, open_form) is compiled
    assert len(packings_of(compiled, 0)) > 1
    assert len(opened) == 2


def test_a_network_of_which_nothing_can_be_packed_is_not_opened_again() -> None:
    keras = pytest.importorskip("keras")
    compiled = compile_float32(convolutions(keras.layers, (8, 8, 1), (4, 3, 1)))

    opened = []

    def open_form(form: bytes) -> LiteRTEngine:
        opened.append(form)
        return LiteRTEngine(form, "float32", 1)

    assert quickest_form(compiled, open_form) is compiled
    assert opened == []


def test_of_a_slow_network_one_image_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 of the size that it takes might not fit into memory."""
    made: list[int] = []
    plain = trying._images

    def noted(count: int, engine: Runs) -> Images:
        made.append(count)
        return plain(count, engine)

    monkeypatch.setattr(trying, "_images", noted)
    monkeypatch.setattr(trying, "_cpu_seconds", lambda *_: 1.0)
    compiled = SHIPPED.read_bytes()
    assert quickest_form(compiled, lambda form: LiteRTEngine(form, "int8", 1)) is compiled
    assert made == [1]


def test_channels_in_groups_are_not_packed() -> None:
    graph = TfliteGraph(SHIPPED.read_bytes())
    assert packings_of(graph.written(), 1)
    operator = graph.operators[graph.convolutions()[1]]
    image, filters, bias = operator.inputs
    halves = graph.constant(graph.tensors[filters], np.int8)[..., ::2]
    operator.inputs = [image, graph.add_tensor(graph.tensors[filters], halves.shape, halves), bias]
    assert packings_of(graph.written(), 1) == []
    assert 1 not in packable_convolutions(graph.written())


@pytest.fixture
def _nothing_known() -> Iterator[None]:
    """What was found out about networks is forgotten, before and after."""
    litert._quickest_here.cache_clear()
    yield
    litert._quickest_here.cache_clear()


@pytest.mark.usefixtures("_nothing_known")
def test_a_network_that_is_opened_again_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []

    def note(compiled: bytes, _opened: object) -> bytes:
        tried.append(compiled)
        return compiled

    monkeypatch.setattr(litert, "quickest_form", note)
    for _ in range(2):
        open_engine(open_checkpoint(DEFAULT_CHECKPOINT))
    assert tried == [SHIPPED.read_bytes()]


@pytest.mark.usefixtures("_nothing_known")
def test_the_engine_serves_the_quickest_form(
    digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = packed(SHIPPED.read_bytes(), 0, Packing(4))
    monkeypatch.setattr("Modelling.network.litert.quickest_form", lambda *_: form)
    served: list[bytes] = []
    plain = LiteRTEngine.__init__

    def noted(self: LiteRTEngine, compiled: bytes, *arguments: Any, **options: Any) -> None:
        served.append(compiled)
        plain(self, compiled, *arguments, **options)

    monkeypatch.setattr(LiteRTEngine, "__init__", noted)
    engine = open_engine(open_checkpoint(DEFAULT_CHECKPOINT))
    assert engine.name == "int8"
    assert served[-1] is form
    assert np.array_equal(engine.run(digits), answers(SHIPPED.read_bytes(), digits))
