"""What the tests of running pipelines share: free ports, scrapes, and checkpoints to swap."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from hashlib import sha256
from pathlib import Path

from Modelling.network.checkpoint import DEFAULT_CHECKPOINT, write_atomically
from Pipeline.observability.scraping import Sample, parse
from tests.waiting import wait_until


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and body; (0, "") where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def scrape(port: int) -> Sample:
    status, text = get(port, "/metrics")
    assert status == 200, (status, text)
    return parse(text)


def wait_until_ready(port: int) -> None:
    wait_until(lambda: get(port, "/readyz")[0] == 200, f"port {port} is ready")


class CheckpointFolder:
    """A copy of the shipped checkpoint, and successors of it.

    A successor is the same network in a file with another hash, hence another version: what is
    tested is the change, not the training.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        for file in DEFAULT_CHECKPOINT.parent.glob(f"{DEFAULT_CHECKPOINT.stem}*"):
            shutil.copy(file, folder)
        self.path = folder / DEFAULT_CHECKPOINT.name
        self.side_file = self.path.with_suffix(".json")
        engines = json.loads(self.side_file.read_bytes())["engines"].values()
        self.forms = [folder / engine["file"] for engine in engines]
        self._original = self.path.read_bytes()
        self._side = json.loads(self.side_file.read_bytes())

    def successor(self, number: int) -> tuple[bytes, bytes]:
        """The checkpoint and the side file of successor `number`."""
        checkpoint = self._original + bytes(number)
        side = {**self._side, "sha256": sha256(checkpoint).hexdigest()}
        return checkpoint, json.dumps(side).encode()

    def install(self, number: int) -> str:
        """Put a successor in place, its files one by one; returns the start of its version."""
        checkpoint, side = self.successor(number)
        write_atomically(self.path, checkpoint)
        write_atomically(self.side_file, side)
        return f"{self.path.stem}@{sha256(checkpoint).hexdigest()[:12]}"
