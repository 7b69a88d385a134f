"""What the command lines of all scripts and tools have in common: their name, and `--version`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from DurableText.installation import __version__

# The installed commands begin so: `edms-app-1`, `edms db`.
COMMAND = "edms"


def command_parser(name: str, **settings: Any) -> argparse.ArgumentParser:
    """Make a parser that knows its version and calls itself what it was called by.

    Args:
        name: what it is called by in a checkout, as `app_1.py` or `python -m DB`.
        settings: of `argparse.ArgumentParser`.
    """
    called = Path(sys.argv[0]).name
    prog = called if called.startswith(COMMAND) else name
    parser = argparse.ArgumentParser(prog=prog, **settings)
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return parser
