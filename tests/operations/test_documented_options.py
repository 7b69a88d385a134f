"""docs/configuration.md names every option of the scripts, with the default that it has."""

import importlib
import re
from pathlib import Path

import pytest

import DB
import Queue

ROOT = Path(__file__).resolve().parents[2]

COMMANDS = {
    "app_1.py": "app_1",
    "model_server_sub.py": "model_server_sub",
    "model_server_pub.py": "model_server_pub",
    "app_2.py": "app_2",
    "python -m Pipeline.watch": "Pipeline.watch.__main__",
    "python -m Pipeline.page": "Pipeline.page.__main__",
    "python -m Pipeline.demo": "Pipeline.demo.__main__",
}
CONSUMERS = ("model_server_sub.py", "model_server_pub.py", "app_2.py")


def tables():
    """Returns the rows of each table of the section on the command line, cell by cell."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    section = text.partition("## Command line\n")[2].partition("\n## ")[0]
    for block in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        lines = block.replace(r"\|", "/").splitlines()[2:]
        yield [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def documented(command):
    """Returns {option: default in words} of a command."""
    for_all, for_consumers, of_scripts, of_others = tables()
    rows = []
    if command.endswith(".py"):
        rows += for_all + (for_consumers if command in CONSUMERS else [])
    current = ""
    for name, *row in of_scripts + of_others:
        current = name.strip("`") or current
        if current == command:
            rows.append(row)
    return {option: row[1] for row in rows for option in re.findall(r"`(--[a-z-]+)", row[0])}


def options_of(command):
    parser = importlib.import_module(COMMANDS[command]).parser()
    return {
        option: action.default
        for action in parser._actions
        for option in action.option_strings
        if option not in ("-h", "--help", "--version")  # which all have
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_documentation_and_every_documented_one_exists(command):
    assert sorted(documented(command)) == sorted(options_of(command))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_documented_default_is_the_one_that_it_has(command):
    words = documented(command)
    for option, default in options_of(command).items():
        said = words[option].strip("`")
        if isinstance(default, Path):
            assert ROOT / said == default, option
        elif isinstance(default, bool) or default is None:
            assert not re.match(r"[\d/.]", said), f"{option} has no default, not {said!r}"
        elif isinstance(default, (int, float)):
            assert float(said.split()[0].replace(",", "")) == default, option
        else:
            assert said == default, option


def test_the_scripts_and_the_commands_beside_them_mean_the_same_files():
    assert options_of("model_server_sub.py")["--queue"] == Queue.DEFAULT_PATH
    assert options_of("model_server_pub.py")["--queue"] == Queue.DEFAULT_PATH
    assert options_of("app_2.py")["--db"] == DB.DEFAULT_PATH
