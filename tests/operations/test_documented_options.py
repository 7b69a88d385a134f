"""The docs name every option with its default, and show commands that are understood."""

import argparse
import importlib
import re
import runpy
import shlex
import sys
import warnings
from pathlib import Path

import pytest

import DB
import Queue
from DurableText.installation.commands import TOOLS as INSTALLED_TOOLS

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
COMMANDS_OF_MODULES = [name.removesuffix(".__main__") for name in COMMANDS.values()]
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


class _FoundError(Exception):
    """Carries a parser out of a program that was about to parse."""


# Those whose options may be spread over subcommands, and stand in rows of their own.
TOOLS = sorted({tool for tool, _ in INSTALLED_TOOLS.values()} - {*COMMANDS_OF_MODULES})


def parser_of(tool, monkeypatch):
    def found(self, *_arguments, **_settings):
        raise _FoundError(self)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", found)
    monkeypatch.setattr(sys, "argv", [tool])
    with pytest.raises(_FoundError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it is imported already
        runpy.run_module(tool, run_name="__main__")
    return caught.value.args[0]


def all_options(parser):
    found = set()
    for action in parser._actions:
        found |= {each for each in action.option_strings if each.startswith("--")}
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(all_options, action.choices.values()))
    return found - {"--help", "--version"}


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_of_a_tool_is_in_the_documentation_and_the_reverse(tool, monkeypatch):
    *_, of_others = tables()
    rows, current = [], ""
    for name, *row in of_others:
        if name and not name.startswith("`..."):
            current = name
        if re.match(rf"`python -m {re.escape(tool)}\b(?!\.)", current):
            rows.append(f"{name} {row[0]}")
    said = set(re.findall(r"--[a-z-]+", " ".join(rows)))
    assert said == all_options(parser_of(tool, monkeypatch))


@pytest.mark.parametrize("page", ["configuration.md", "installing.md"])
def test_every_installed_tool_is_named(page):
    text = (ROOT / "docs" / page).read_text()
    assert {each for each in INSTALLED_TOOLS if f"`edms {each}`" not in text} == set()


BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
OUR_COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?:python (?:-m )?|edms[ -])([\w.-]+) ?(.*)")
SHELL_WORDS = {"|", ">", ">>", "&", "&&", ";"}
OF_PEOPLE = "tests", "benchmarks", "pytest", "build", "twine"


def commands_of(page):
    """Yields (script or tool, arguments) of each command of ours that a page shows."""
    blocks = [block for kind, block in BLOCK.findall(page.read_text()) if kind in ("", "bash")]
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            found = OUR_COMMAND.match(line.strip())
            if found and "[--" not in line and not found[1].startswith(OF_PEOPLE):
                words = shlex.split(found[2], comments=True)
                ends = [number for number, word in enumerate(words) if word in SHELL_WORDS]
                yield found[1], words[: min(ends, default=len(words))]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_that_a_page_shows_is_understood(page, monkeypatch):
    for name, arguments in commands_of(page):
        script = name.removesuffix(".py").replace("-", "_")
        with monkeypatch.context() as patched:
            if f"{script}.py" in COMMANDS:
                parser = importlib.import_module(script).parser()
            else:
                parser = parser_of(INSTALLED_TOOLS.get(name, (name,))[0], patched)
        parser.parse_args([each for each in arguments if each != "..."])


def test_the_pages_show_commands():
    assert sum(len([*commands_of(page)]) for page in PAGES) > 50
