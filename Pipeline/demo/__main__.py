"""`make demo`: the whole pipeline in real processes, ended by a table and a picture.

The four scripts run as they would in four terminals, on the embedded broker, in a state folder of
their own. The bundled test images go through; the demo watches the DB grow, stops the scripts,
and holds the ids that `app_1` reported against those in the DB.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from DB import open_database
from DurableText.installation.command_line import command_parser
from DurableText.installation.places import CODE, in_checkout, state_folder, with_make
from DurableText.program.interrupts import BROKEN_OFF, Interrupts
from DurableText.program.option_types import count, file_with_suffix
from MessageBroker import MessageBrokerFactory, add_broker_option
from MessageBroker.broker_interface import dead_letter_topic, default_subscription
from MessageBroker.configuration import read_broker_config
from Pipeline.running import LOOK_SECONDS, STOP_SECONDS, RunError, RunningPipeline, make_folder
from Pipeline.script.options import check_writable

DEFAULT_COUNT = 10_000
STATE_FOLDER = state_folder() / ".demo"
PICTURE = (CODE if in_checkout() else Path()) / "demo.png"

PICTURE_SUFFIXES = (".png", ".jpg", ".pdf", ".svg")

# Nothing stored for so long means that something is wrong.
STALL_SECONDS = 60.0


@dataclass
class Demo(RunningPipeline):
    """One run of the pipeline, in a folder of its own."""

    count: int = DEFAULT_COUNT

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ids_file = self.folder / "ids.txt"

    def run(self) -> list[str]:
        """Send the images through; return the scripts' summaries."""
        consumers = [
            self.start("model_server_sub", "--queue", self.queue),
            self.start("model_server_pub", "--queue", self.queue),
            self.start("app_2", "--db", self.db),
        ]
        for script in consumers:
            script.wait_until_ready()
        app_1 = self.start("app_1", "--count", self.count, "--ids", self.ids_file)
        self._watch()
        summaries = [app_1.finish(STOP_SECONDS)]
        for script in consumers:
            script.process.terminate()
        return summaries + [script.finish(STOP_SECONDS) for script in consumers]

    def _watch(self) -> None:
        """Show progress until all images are in the DB or among the dead letters."""
        rows, stored = open_database(self.db, read_only=True), 0
        last_change = time.monotonic()
        with tqdm(total=self.count, unit=" images", disable=None, desc="stored") as progress:
            while stored + self._dead_letters_if_slow(last_change) < self.count:
                time.sleep(LOOK_SECONDS)
                for script in self.scripts:
                    script.require_well()
                now_stored = rows.count()
                if now_stored > stored:
                    progress.update(now_stored - stored)
                    stored, last_change = now_stored, time.monotonic()
                if time.monotonic() - last_change > STALL_SECONDS:
                    raise RunError(
                        f"{stored} of {self.count} stored, then nothing: see {self.folder}/*.log"
                    )

    def _dead_letters_if_slow(self, last_change: float) -> int:
        """Count dead letters, but only when the DB has stopped growing."""
        return self.dead_letters() if time.monotonic() - last_change > 1.0 else 0

    def dead_letters(self) -> int:
        """Count the dead letters of this run; 0 where the broker cannot tell."""
        os.environ["LOCAL_BROKER_PATH"] = self.environment["LOCAL_BROKER_PATH"]
        topics = read_broker_config().topics
        with MessageBrokerFactory.get_broker(self.broker) as broker:
            letters = [dead_letter_topic(each) for each in (topics.images, topics.inferences)]
            return sum(broker.backlog(each, default_subscription(each)) or 0 for each in letters)

    def rows(self) -> list[dict[str, Any]]:
        """Read the DB."""
        with self.db.open("rb") as lines:
            return [orjson.loads(line) for line in lines]

    def check(self, rows: list[dict[str, Any]], dead_letters: int) -> None:
        """Hold the ids that `app_1` reported against those in the DB."""
        published = self.ids_file.read_text().split()
        stored = [row["id"] for row in rows]
        if len(stored) != len(set(stored)):
            raise RunError(f"{len(stored) - len(set(stored))} ids are twice in {self.db}")
        missing = set(published) - set(stored)
        if len(missing) > dead_letters:
            raise RunError(f"{len(missing)} published images are not in {self.db}")


@contextlib.contextmanager
def fresh_state(folder: Path, *, keep: bool) -> Iterator[Path]:
    """Make the state folder anew; remove it after a run that went well or was interrupted."""
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    try:
        yield folder
    except KeyboardInterrupt:
        if not keep:
            shutil.rmtree(folder)
        raise  # after any other error the logs in it tell what went wrong
    if not keep:
        shutil.rmtree(folder)


def check_picture(path: Path) -> None:
    """Find out at once, not after the run, whether the picture can be written."""
    try:
        check_writable(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def main() -> None:
    """Run the demo."""
    options = parser().parse_args()
    interrupts = Interrupts(in_background=True)  # it has processes to end
    try:
        with interrupts:
            _run(options)
    except RunError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        print(f"demo: {BROKEN_OFF}", file=sys.stderr)
        sys.exit(interrupts.exit_code)


def _run(options: argparse.Namespace) -> None:
    check_picture(options.picture)
    with fresh_state(STATE_FOLDER, keep=options.keep) as folder:
        demo = Demo(folder, options.broker, count=options.count)
        try:
            summaries = demo.run()
        finally:
            demo.kill()
        rows, dead_letters = demo.rows(), demo.dead_letters()
        demo.check(rows, dead_letters)
        # Imported late: matplotlib takes a second that the scripts need for themselves.
        from Pipeline.demo.report import draw_picture, table_of

        print("\n".join(summaries))
        print(
            table_of(
                rows,
                published=len(demo.ids_file.read_text().split()),
                dead_lettered=dead_letters,
            )
        )
        draw_picture(rows, options.picture)
        print(f"\n{options.picture}")
        again = with_make("page", "edms together")
        print(f"\nNext: {again} runs it all again in a browser, with a pad to draw digits on.")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser("python -m Pipeline.demo", description=__doc__)
    add_broker_option(parser, "local")
    parser.add_argument(
        "--count",
        type=count,
        metavar="N",
        default=DEFAULT_COUNT,
        help="images to send (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help=f"keep {STATE_FOLDER.name}/")
    parser.add_argument(
        "--picture",
        type=file_with_suffix(*PICTURE_SUFFIXES),
        metavar="FILE",
        default=PICTURE,
        help=f"{', '.join(PICTURE_SUFFIXES)} (default: {PICTURE})",
    )
    return parser


if __name__ == "__main__":
    main()
