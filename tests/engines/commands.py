"""Commands on a queue or a DB, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def outcome_of(*command: str, **environment: str) -> tuple[int, str]:
    """Run Python with arguments, in the project's folder; return its exit code and all it said."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout + done.stderr


def assert_says_what_to_install(package: str, tool: str, *arguments: str, extra: str) -> None:
    """Run a tool where a client is not installed."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from {tool}.__main__ import main\n"
        f"sys.exit(main({list(arguments)!r}))"
    )
    code_of_exit, output = outcome_of("-c", code)
    assert code_of_exit == 2
    assert f"pip install '.[{extra}]'" in output
    assert "Traceback" not in output


def imported(names: tuple[str, ...], script: str, statement: str, place: Path) -> list[str]:
    """Return which modules are imported once a script was, and a statement that has a place."""
    code = (
        f"import sys, {script}\n"
        f"{statement}\n"
        f"print(*[name for name in {names!r} if name in sys.modules])"
    )
    return outcome_of("-c", code, str(place))[1].split()
