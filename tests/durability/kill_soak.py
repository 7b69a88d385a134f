"""Three producers, two consumers and the DB; one process after the other is killed with SIGKILL.

    python -m tests.durability.kill_soak FOLDER --kills 1000 --seed 1

Producers put records and write down which were acknowledged; consumers take, write down what they
were handed, insert into the DB, then commit. A killed process is replaced at once. In the end the
queue is drained, the books are compared, and the counts are printed as JSON; exit code 1 if
anything is wrong.

Workers are forked from a process that has everything imported, so that they are at work a few
milliseconds after their start, and killed in the middle of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from DB import Rotation
from DB.text.database import TextDatabase
from DB.text.parts import part_paths
from DurableText.storage import STORAGE
from Queue.text.report import status
from Queue.text.report import verify as verify_queue
from tests.db.reading import verify as verify_db
from tests.queue.of_dicts import FileQueue

SEGMENT_BYTES = 20_000
PART_BYTES = 1_000_000
PAUSES_SECONDS = (0.005, 0.05)
PRODUCERS, CONSUMERS = 3, 2


WRONG = (
    "lost",
    "delivered_out_of_order",
    "stored_twice",
    "delivered_and_not_stored",
    "gaps",
    "damaged_lines",
    "db_problems",
)
"""The counts that must be zero."""

END = " ."


def note(fd: int, lines: list[str]) -> None:
    """Writes into a notebook. A kill can tear this write too: hence the newline first, and END."""
    os.write(fd, ("\n" + "".join(f"{line}{END}\n" for line in lines)).encode())


def noted(file: Path) -> list[str]:
    """Returns the lines of a notebook that are whole."""
    lines = file.read_text().splitlines()
    return [line.removesuffix(END) for line in lines if line.endswith(END)]


def asked_to_end() -> Callable[[], bool]:
    """Return how a worker learns that it shall end: by SIGTERM, or as the soak itself is gone."""
    soak, told = os.getppid(), []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    return lambda: bool(told) or os.getppid() != soak


def produce(folder: Path, name: str, life: int) -> None:
    """Puts records until it is told to stop (SIGTERM) or killed."""
    shall_end = asked_to_end()
    rng = random.Random(f"{name}-{life}")
    acknowledged = os.open(folder / f"acknowledged-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    with FileQueue(folder / "log.txt", segment_bytes=SEGMENT_BYTES) as queue:
        while not shall_end():
            count = rng.choice([1, 3, 20, 400])  # large ones can be torn by a kill
            ids = [f"{name}-{life}-{number + i}" for i in range(count)]
            number += count
            queue.put([{"id": i, "label": i[-1], "pad": "x" * rng.randint(0, 300)} for i in ids])
            note(acknowledged, ids)


def consume(folder: Path, name: str, life: int) -> None:
    """Takes, inserts and commits until it is told to stop or killed."""
    shall_end = asked_to_end()
    handed = os.open(folder / f"handed-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    db = None
    with FileQueue(folder / "log.txt", segment_bytes=SEGMENT_BYTES) as queue:
        while not shall_end():
            batch = queue.take(64, timeout=0.05)
            if not batch:
                continue
            now = time.monotonic_ns()
            lines = [
                f"{now} {batch.first_seq + i} {record['id']}"
                for i, record in enumerate(batch.records)
            ] + [
                f"{now} corrupt {line.segment}:{line.offset}: {line.reason}"
                for line in batch.corrupt
            ]
            note(handed, lines)
            db = db or TextDatabase(folder / "db.txt", rotation=Rotation(bytes=PART_BYTES))
            db.insert(batch.records)
            queue.commit(batch)
        if db is not None:
            db.close()


class Soak:
    """The workers, who kills them, and the comparison of the books."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.lives: Counter[str] = Counter()
        self.running: dict[str, int] = {}
        self.kills: Counter[str] = Counter()

    def start(self, name: str) -> None:
        self.lives[name] += 1
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                work = produce if name.startswith("p") else consume
                work(self.folder, name, self.lives[name])
                code = 0
            except BaseException as error:
                print(f"{name}: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        self.running[name] = pid

    def run(self, kills: int) -> None:
        for number in range(PRODUCERS):
            self.start(f"p{number}")
        for number in range(CONSUMERS):
            self.start(f"c{number}")
        for _ in range(kills):
            time.sleep(self.rng.uniform(*PAUSES_SECONDS))
            name = self.rng.choice(sorted(self.running))
            pid = self.running.pop(name)
            os.kill(pid, signal.SIGKILL)
            _, ending = os.waitpid(pid, 0)
            if os.WIFEXITED(ending):
                raise SystemExit(f"{name} had ended by itself with {os.WEXITSTATUS(ending)}")
            self.kills[name[0]] += 1
            self.start(name)
        self.stop("p")
        self.wait_until_drained()
        self.stop("c")

    def stop(self, kind: str) -> None:
        for name in [name for name in self.running if name.startswith(kind)]:
            pid = self.running.pop(name)
            os.kill(pid, signal.SIGTERM)
            _, ending = os.waitpid(pid, 0)
            if ending not in (0, signal.SIGTERM):  # the latter before it had its signal handler
                raise SystemExit(f"{name} ended with status {ending}")

    def wait_until_drained(self) -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if status(self.folder / "log.txt").depth == 0:
                return
            time.sleep(0.2)
        raise SystemExit("the consumers did not come to an end")

    def compare(self) -> dict[str, object]:
        acknowledged = set()
        for file in self.folder.glob("acknowledged-*"):
            acknowledged.update(noted(file))
        handed = []
        for file in self.folder.glob("handed-*"):
            for line in noted(file):
                moment, seq, what = line.split(" ", 2)
                handed.append((int(moment), seq, what))
        handed.sort(key=lambda entry: entry[0])
        delivered = [(int(seq), what) for _, seq, what in handed if seq != "corrupt"]
        first: dict[str, int] = {}
        disorder = highest = 0
        for seq, what in delivered:
            if what not in first:
                first[what] = seq
                disorder += seq <= highest
                highest = max(highest, seq)
        path = self.folder / "db.txt"
        texts = [each for each in (*part_paths(path, STORAGE), path) if each.exists()]
        stored = Counter(
            json.loads(line)["id"]
            for text in texts
            for line in text.read_text().splitlines()
            if line.strip()
        )
        # The same line can be handed out several times: it counts once. A kill tears the line that
        # is being written; it damages no other one, and takes none away.
        corrupt = {what for _, seq, what in handed if seq == "corrupt"}
        reasons = [what.split(": ", 1)[1] for what in corrupt]
        gaps = sum(1 for reason in reasons if reason.startswith("gap:"))
        torn = sum(1 for reason in reasons if reason.startswith("torn"))
        queue, db = verify_queue(self.folder / "log.txt"), verify_db(self.folder / "db.txt")
        return {
            "kills": sum(self.kills.values()),
            "producers_killed": self.kills["p"],
            "consumers_killed": self.kills["c"],
            "acknowledged": len(acknowledged),
            "deliveries": len(delivered),
            "redeliveries": len(delivered) - len(first),
            "stored": len(stored),
            "torn_lines_quarantined": torn,
            "lost": len(acknowledged - set(stored)),
            "delivered_out_of_order": disorder,
            "stored_twice": sum(1 for count in stored.values() if count > 1),
            "delivered_and_not_stored": len(set(first) - set(stored)),
            "gaps": gaps,
            "damaged_lines": len(reasons) - gaps - torn,
            "db_problems": db.problem_count,
            "queue_problems": queue.problem_count,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(options.folder, options.seed)
    begin = time.monotonic()
    try:
        soak.run(options.kills)
    finally:
        for pid in soak.running.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    counts = {"seed": options.seed, **soak.compare(), "seconds": round(time.monotonic() - begin, 1)}
    print(json.dumps(counts, indent=2))
    return 1 if any(counts[name] for name in WRONG) else 0


if __name__ == "__main__":
    sys.exit(main())
