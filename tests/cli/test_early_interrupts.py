"""Ctrl-C in the first tenths of a second of a command, while it is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.test_programs import PROGRAMS, ROOT

# The signal comes exactly when the module is looked for.
INTERRUPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.{handler})
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
"""

# The page ends as the four scripts do, of which `test_start_and_stop` tells; the worker parses
# nothing.
OTHERS = {"Pipeline.page", "MessageBroker.conformance.worker"}
COMMANDS = [
    command
    for path in PROGRAMS
    if path.parent != ROOT
    and (command := ".".join(path.relative_to(ROOT).with_suffix("").parts))
    and (command := command.removesuffix(".__main__")) not in OTHERS
]
PACKAGES = [command for command in COMMANDS if (ROOT / command / "__init__.py").exists()]


def interrupted(
    folder: Path, command: str, module: str, handler: str = "default_int_handler"
) -> subprocess.CompletedProcess[str]:
    """Run a command; it is interrupted when it imports `module`."""
    (folder / "sitecustomize.py").write_text(INTERRUPT.format(module=module, handler=handler))
    return subprocess.run(
        [sys.executable, "-m", command, "--version"],
        cwd=ROOT, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "module"),
    [(each, "argparse") for each in COMMANDS] + [(each, f"{each}.errors") for each in PACKAGES],
)
def test_control_c_while_a_command_is_imported_ends_it_without_a_word(
    tmp_path: Path, command: str, module: str
) -> None:
    ended = interrupted(tmp_path, command, module)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_a_command_in_the_background_is_left_alone(tmp_path: Path) -> None:
    ended = interrupted(tmp_path, "DB", "argparse", handler="SIG_IGN")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_whoever_only_imports_a_package_keeps_control_c(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("import DB, MessageBroker, Queue\n")
    (tmp_path / "theirs" / "__main__.py").write_text(
        "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "theirs", "DB"],
        cwd=ROOT, env={"PYTHONPATH": f"{tmp_path}"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == "True\n"
