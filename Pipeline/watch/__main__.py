"""A live view of a running pipeline: is all well?

python -m Pipeline.watch                        the scripts at localhost:9101 to 9104
python -m Pipeline.watch 10.0.0.5:9102 9104     others; a number is a port of this machine
python -m Pipeline.watch --once --json          for scripts; ends with 1 if something is wrong

It reads the metrics that the scripts serve with --metrics-port, and the last rows of the DB.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import contextlib
import io
import json
import signal
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from DB import DatabaseConfigurationError, open_database
from DurableText.command_line import EXIT_USAGE
from DurableText.installation.command_line import command_parser
from DurableText.program import standard_streams
from DurableText.program.option_types import file_with_suffix, positive
from DurableText.storage import write_file
from Pipeline.observability.overview import Overview, target
from Pipeline.script.options import add_db_option, check_writable
from Pipeline.watch.view import line, view

DEFAULT_INTERVAL_SECONDS = 1.0
LAST_RESULTS = 5
PICTURE_COLUMNS = 110
# So long is looked before a picture is drawn, that rates and the curve show something.
PICTURE_LOOKS = 15


class Watch(Overview):
    """Looks again and again, and draws what it saw."""

    def draw(self, console: Console) -> Any:
        """Draw for a terminal."""
        return view(
            self.stages,
            self.problems,
            self.rates,
            self.last_results(LAST_RESULTS),
            columns=console.width,
            plain=not console.encoding.startswith("utf"),
        )

    def as_json(self) -> str:
        """Say everything as JSON."""
        told = {**self.as_dict(), "last_results": self.last_results(LAST_RESULTS)}
        return json.dumps(told, indent=2)

    def as_line(self) -> str:
        """Say everything in one line."""
        return line(self.stages, self.problems, datetime.now().astimezone())


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(
        "python -m Pipeline.watch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", type=target, metavar="HOST:PORT or PORT")
    parser.add_argument(
        "--interval",
        type=positive,
        metavar="SECONDS",
        default=DEFAULT_INTERVAL_SECONDS,
        help="between two looks (default: %(default)g)",
    )
    add_db_option(parser)  # for the last results
    parser.add_argument("--once", action="store_true", help="look, tell, and end")
    parser.add_argument("--json", action="store_true", help="the same in JSON")
    parser.add_argument(
        "--picture",
        type=file_with_suffix(".svg"),
        metavar="FILE.svg",
        help=f"draw it after {PICTURE_LOOKS} looks, and end",
    )
    return parser


def main() -> int:
    """Watch until interrupted."""
    options = parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # either leaves the terminal as it was
    try:
        watch = Watch(options.targets, open_database(options.db, read_only=True))
    except DatabaseConfigurationError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    interval = min(options.interval, threading.TIMEOUT_MAX)
    with contextlib.suppress(KeyboardInterrupt):
        if options.picture:
            return draw_picture(watch, interval, options.picture)
        if options.once or options.json:
            return look_once(watch, interval, as_json=options.json)
        watch_on(watch, interval)
    return 0


def watch_on(watch: Watch, interval: float) -> None:
    """Draw again and again; without a terminal, a line each time."""
    console = Console()
    if not console.is_terminal:
        while not standard_streams.reader_is_gone():
            watch.look()
            console.print(watch.as_line(), soft_wrap=True, markup=False)
            time.sleep(interval)
        return
    watch.look()
    with Live(watch.draw(console), console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval)
            watch.look()
            live.update(watch.draw(console), refresh=True)


def look_once(watch: Watch, interval: float, *, as_json: bool) -> int:
    """Look twice, for the rates; tell once. Ends with 1 if something is wrong."""
    watch.look()
    time.sleep(interval)
    watch.look()
    console = Console()
    if as_json:
        console.print_json(watch.as_json(), ensure_ascii=True)
    else:
        console.print(watch.draw(console))
    return 1 if watch.problems else 0


def draw_picture(watch: Watch, interval: float, path: Path) -> int:
    """Save what a terminal would show. Ends with 1 if the file cannot be written."""
    try:
        check_writable(path)
    except OSError as error:
        print(f"watch: cannot write {path}: {error.strerror}", file=sys.stderr)
        return 1
    console = Console(record=True, width=PICTURE_COLUMNS, force_terminal=True, file=io.StringIO())
    for _ in range(PICTURE_LOOKS):
        watch.look()
        time.sleep(interval)
    console.print(watch.draw(console))
    write_file(path, console.export_svg(title="python -m Pipeline.watch").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
