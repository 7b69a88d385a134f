"""A process that may open no more files is told what it lacks, where SQLite does not say it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import ROOT

# Takes all descriptors but as many, and then opens what stands behind the name.
FEW = """
import os, resource, sys
from DB import open_database
from MessageBroker.message_broker_factory import MessageBrokerFactory

def use(place):
    if place == "broker":
        broker = MessageBrokerFactory.get_broker("local")
        broker.ping(0.1)
        broker.close(0)
    else:
        open_database(place).close()

use(sys.argv[2])  # all is imported and made
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
held = []
while True:
    try:
        held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        break
for fd in held[:int(sys.argv[1])]:
    os.close(fd)
try:
    use(sys.argv[2])
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("left", [1, 2])
@pytest.mark.parametrize("what", ["broker", "sqlite:///{}/db.sqlite"])
def test_what_is_lacking_is_said(what: str, left: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW, str(left), what.format(tmp_path)],
        cwd=ROOT,
        env={"LOCAL_BROKER_PATH": str(tmp_path / "broker")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "(ulimit -n)" in done.stdout, (done.stdout, done.stderr)


# Holds files to a size, and then stores more.
SMALL = """
import resource, signal, sys
from DB import open_database
from MessageBroker.message_broker_factory import MessageBrokerFactory

SIZE = 8192 if sys.argv[1] == "broker" else 262144
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does
resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))
try:
    if sys.argv[1] == "broker":
        broker = MessageBrokerFactory.get_broker("local")
        broker.create_topic("topic")
    else:
        open_database(sys.argv[1]).insert([{"id": "a", "label": "7" * 300_000}])
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["broker", "sqlite:///{}/db.sqlite", "{}/db.txt"])
def test_a_limit_of_a_files_size_is_named(what: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SMALL, what.format(tmp_path)],
        cwd=ROOT,
        env={"LOCAL_BROKER_PATH": str(tmp_path / "broker")},
        capture_output=True,
        text=True,
        check=False,
    )
    named = "File too large" if what.endswith(".txt") else "(ulimit -f)"
    assert named in done.stdout, (done.stdout, done.stderr)
