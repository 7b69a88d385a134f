"""What the command lines of all scripts and tools have in common: their name, and `--version`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from DurableText.installation import __version__

# The installed commands begin so: `edms-app-1`, `edms db`.
COMMAND = "edms"

# Of a URL that stands where it does not belong: what may be its password.
_PASSWORD = re.compile(r"(://[^\s:/@]*:|(?i:password|passwd|pwd|secret)\s*=)\S+")


class _Parser(argparse.ArgumentParser):
    """Repeats what it does not understand, but no password; says where options stand."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See `argparse`, which takes the value of an option before a command for the command."""
        given = sys.argv[1:] if args is None else list(args)
        first = given[0].partition("=")[0] if given else ""
        if self._subparsers is not None and first.startswith("-"):
            known = any(each.startswith(first) for each in self._option_string_actions)
            if not known:
                self.error(f"{first}: the options of a command stand behind it")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(_PASSWORD.sub(r"\1…", message))


def command_parser(name: str, **settings: Any) -> argparse.ArgumentParser:
    """Make a parser that knows its version and calls itself what it was called by.

    Args:
        name: what it is called by in a checkout, as `app_1.py` or `python -m DB`.
        settings: of `argparse.ArgumentParser`.
    """
    called = Path(sys.argv[0]).name
    prog = called if called.startswith(COMMAND) else name
    # A description is a docstring: its lines are short enough, and its examples stay lines.
    settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
    parser = _Parser(prog=prog, **settings)
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    return parser
