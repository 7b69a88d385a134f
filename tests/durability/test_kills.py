"""Processes killed at random moments, with real files: see `kill_soak`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def soak(folder, kills, seed):
    command = [sys.executable, "-m", "tests.durability.kill_soak", str(folder)]
    done = subprocess.run(
        [*command, "--kills", str(kills), "--seed", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert counts["kills"] == kills
    assert counts["acknowledged"] > kills
    return counts


def test_a_hundred_kills_lose_nothing_and_store_nothing_twice(tmp_path):
    soak(tmp_path, kills=100, seed=7)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_thousand_kills_lose_nothing_and_store_nothing_twice(tmp_path, seed):
    soak(tmp_path, kills=1000, seed=seed)
