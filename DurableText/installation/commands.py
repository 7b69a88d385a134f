"""The installed commands. Each runs a script or tool as `python script.py` and `python -m` do.

So there is one way in: what the files of a checkout do before anything else (signals that come
while they are still imported) happens here as well.
"""

from __future__ import annotations

import runpy
import sys

from DurableText.installation import __version__
from DurableText.installation.command_line import COMMAND
from DurableText.program import first_signals

TOOLS = {
    "broker": ("MessageBroker", "ping, topics, backlog, dead letters"),
    "queue": ("Queue", "depth, oldest record, who holds what"),
    "db": ("DB", "how many, per label, accuracy, latency"),
    "watch": ("Pipeline.watch", "is all well? in a terminal"),
    "page": ("Pipeline.page", "the pipeline in a browser: draw, watch, send back what failed"),
    "together": ("Pipeline.page.together", "the four scripts and the page, by one command"),
    "demo": ("Pipeline.demo", "the whole pipeline on the embedded broker"),
    "backup": ("Pipeline.backup", "copy all state while it runs; put it back"),
    "predict": ("Modelling.predict_cnn", "what is on an image, without a broker"),
    "train": ("Modelling.train_cnn", "train the model again"),
    "promote": ("Modelling.promote", "make a checkpoint the served one; --back returns"),
    "quantise": ("Modelling.quantise", "compile a checkpoint for fast serving"),
}

EXIT_USAGE = 2


def app_1() -> None:
    """Run `edms-app-1`."""
    _run("app_1")


def model_server_sub() -> None:
    """Run `edms-model-server-sub`."""
    _run("model_server_sub")


def model_server_pub() -> None:
    """Run `edms-model-server-pub`."""
    _run("model_server_pub")


def app_2() -> None:
    """Run `edms-app-2`."""
    _run("app_2")


def tool() -> None:
    """Run `edms TOOL …`."""
    first_signals.break_off_quietly()
    wanted = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if wanted == "--version":
        sys.stdout.write(f"{COMMAND} {__version__}\n")
    elif wanted in ("-h", "--help"):
        sys.stdout.write(_usage())
    elif wanted in TOOLS:
        sys.argv[:2] = [f"{COMMAND} {wanted}"]
        _run(TOOLS[wanted][0])
    else:
        sys.stderr.write(f"{COMMAND}: there is no {wanted!r}\n{_usage()}")
        sys.exit(EXIT_USAGE)


def _run(module: str) -> None:
    runpy.run_module(module, run_name="__main__")


def _usage() -> str:
    lines = [f"  {name:<10}{meaning}" for name, (_, meaning) in TOOLS.items()]
    scripts = "edms-app-1, edms-model-server-sub, edms-model-server-pub, edms-app-2"
    return "\n".join([f"usage: {COMMAND} TOOL …, each with --help", *lines, "", scripts, ""])
