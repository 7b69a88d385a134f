"""What code of one's own may do in `predict`: it costs its item, or nothing at all."""

from __future__ import annotations

from tests.pipeline.runner import Pipeline, dead_letters
from tests.pipeline.serving import run

MANNERS = """
import asyncio, decimal, faulthandler, gc, io, json, logging, multiprocessing, os, random, signal
import subprocess, sys, threading, time, warnings
from Modelling.errors import PreparationStoppedError
from examples.sentiment import Sentiment

ONE = {"text": "one for all"}
HOME = logging.getLogger()

def nested(depth, inner):
    for _ in range(depth):
        inner = [inner]
    return inner

def fails(*_):
    raise RuntimeError("of somebody else")

def later(seconds, what, *arguments):
    threading.Timer(seconds, what, arguments).start()

class Twisted(dict):
    def items(self): return [("text", "twisted")]
    def __iter__(self): return iter(())

class Word(str):
    __hash__ = str.__hash__
    def __eq__(self, other): return False

class Manners(Sentiment):
    version = "manners@1"
    def prepare_batch(self, items):
        self.names = [dict(item.attributes) for item in items]
        return [item.data.decode() for item in items], [None] * len(items)
    def predict(self, batch):
        return [getattr(self, each)() or {"text": each} for each in batch]

    # What no result can hold.
    def surrogate(self): return {"label": "\\ud800"}
    def keys_of_numbers(self): return {1: "a"}
    def keys_of_surrogates(self): return {"\\udfff": 1}
    def inner_nan(self): return {"score": [[1.0, [float("-inf")]]]}
    def too_deep(self): return {"score": nested(100_000, 1)}
    def circle(self):
        answer = {}
        answer["self"] = answer
        return answer
    def too_large_a_number(self): return {"score": 1 << 64}
    def a_set(self): return {"score": {1, 2}}
    def too_large(self): return {"text": "x" * (1 << 20)}
    def stopped(self): raise PreparationStoppedError("no time")
    def stop_iteration(self): raise StopIteration({"text": "never"})
    def group(self): raise BaseExceptionGroup("all", [KeyboardInterrupt(), SystemExit(3)])
    def twins(self): return {Word("text"): "first", Word("text"): "second"}
    def traced_itself(self):
        sys.settrace(fails)
        return self.tiny()
    def coroutine(self):
        async def answer(): return {"text": "late"}
        coroutine = answer()
        coroutine.close()
        return coroutine

    # What one can.
    def deep(self): return {"text": "deep", "score": nested(200, 1)}
    def separators(self): return {"text": "a\\u2028b\\x85c\\x1cd\\re\\u2029\\x7f"}
    def alias(self): return ONE
    def twisted(self): return Twisted(text="twisted")
    def tiny(self): return {"text": "tiny", "confidence": 1e-320}
    def large_class(self): return {"text": "large_class", "class_index": 1 << 63}
    def empty_name(self): return {"text": "empty_name", "": 1}

    # What it may do beside.
    def other_attributes(self): self.names.clear()
    def traced(self): threading.settrace(fails)
    def profiled(self): threading.setprofile(fails)
    def alarm(self):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    def waits(self): time.sleep(0.4)
    def records(self): logging.setLogRecordFactory(fails)
    def filters(self): HOME.handlers[0].addFilter(lambda record: False)
    def writes_elsewhere(self): HOME.handlers[0].setStream(io.StringIO())
    def no_level(self): logging.getLogger("Pipeline").setLevel(logging.CRITICAL)
    def thread_exits(self): threading.Thread(target=sys.exit).start()
    def thread_fails(self): threading.Thread(target=fails).start()
    def thread_goes_on(self): later(0.1, os.chdir, "/")
    def small_stacks(self): threading.stack_size(1 << 15)
    def no_collector(self): gc.disable()
    def no_path(self): sys.path.clear()
    def numbers(self): decimal.getcontext().prec = 1
    def seeds(self): random.seed(0)
    def loop(self): asyncio.run(asyncio.sleep(0))
    def hook(self): sys.unraisablehook = fails
    def flood(self): print("x" * (1 << 20))
    def spawned(self):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return {"text": pool.apply(str, ("spawned",))}
    def enters(self):
        import model_server_sub
        logging.basicConfig(force=True, level="CRITICAL", handlers=[logging.NullHandler()])
"""

REFUSED = {
    "surrogate": "no JSON",
    "keys_of_numbers": "no JSON",
    "keys_of_surrogates": "no JSON",
    "inner_nan": "no JSON",
    "too_deep": "no JSON",
    "circle": "no JSON",
    "too_large_a_number": "no JSON",
    "a_set": "no JSON",
    "too_large": "bytes",
    "stopped": "it raised PreparationStoppedError",
    "stop_iteration": "",
    "group": "it raised BaseExceptionGroup",
    "coroutine": "no JSON object",
    "twins": "no JSON",
    "traced_itself": "of somebody else",
}

# What stands in `text`, where it is not the body.
ANSWERED = {
    "deep": "deep",
    "separators": "a\u2028b\x85c\x1cd\re\u2029\x7f",
    "alias": "one for all",
    "twisted": "twisted",
}

HARMLESS = (
    "tiny", "large_class", "empty_name", "other_attributes", "traced", "profiled", "alarm", "waits",
    "records", "filters", "writes_elsewhere", "no_level", "thread_exits", "thread_fails",
    "thread_goes_on", "small_stacks", "no_collector", "no_path", "numbers", "seeds", "loop", "hook",
    "flood", "spawned", "enters",
)  # fmt: skip


def test_whatever_a_predictor_does_costs_its_item_alone_or_nothing(pipeline: Pipeline) -> None:
    (pipeline.folder / "manners.py").write_text(MANNERS)
    bodies = [*REFUSED, *ANSWERED, *HARMLESS]
    rows = run(
        pipeline, [each.encode() for each in bodies],
        "--predictor", "manners:Manners", "--batch-size", 1,
    )  # fmt: skip
    letters = dead_letters(pipeline.connect(), pipeline.images, len(REFUSED))
    errors = {each.data.decode(): each.attributes["dead_letter_error"] for each in letters}
    texts = [row["text"] for row in sorted(rows, key=lambda row: int(row["id"].split("#")[1]))]
    assert texts == [*ANSWERED.values(), *HARMLESS]
    assert {name: said in errors[name] for name, said in REFUSED.items()} == dict.fromkeys(
        REFUSED, True
    )
    output = pipeline.scripts[0].output
    assert "a thread of manners has failed, RuntimeError: of somebody else" in output
    assert f"{len(texts)} images classified, " in output
    assert f", {len(REFUSED)} dead-lettered" in output
