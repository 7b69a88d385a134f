"""`make page`: the four scripts and the page on the embedded broker, by one command.

They run until Ctrl-C, which stops them all, or until one of them fails. What they keep is in a
folder of its own and is there again the next time. `app_1` publishes test images, two a second,
so that there is something to see beside what one draws.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything is opened
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.break_off_quietly()

import argparse
import signal
import socket
import sys
import time

from DurableText.installation.command_line import command_parser
from DurableText.installation.places import state_folder
from DurableText.program.option_types import new_folder_name, port_number, positive
from Pipeline.page.__main__ import DEFAULT_PORT
from Pipeline.running import LOOK_SECONDS, RunError, RunningPipeline, make_folder

STATE_FOLDER = state_folder() / ".page"
IMAGES_PER_SECOND = 2
# The page shows the confidences of all ten digits.
TOP = 10


def main() -> None:
    """Run everything until Ctrl-C."""
    options = parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # the terminal was closed: the same
    pipeline = RunningPipeline(options.folder.resolve(), "local")
    try:
        make_folder(pipeline.folder)
        where = start(pipeline, options)
        print(
            f"draw a digit:  {where}\nlogs and state: {pipeline.folder}\nCtrl-C stops it all",
            flush=True,
        )
        while True:
            time.sleep(LOOK_SECONDS)
            for script in pipeline.scripts:
                script.require_well()
    except RunError as error:
        print(f"page: {error}", file=sys.stderr)
        pipeline.terminate()
        sys.exit(1)
    except KeyboardInterrupt:
        print("\n".join(["", *pipeline.terminate()]))
    finally:
        pipeline.kill()


def start(pipeline: RunningPipeline, options: argparse.Namespace) -> str:
    """Start all, the page first: its port may be in use. Return where the page is."""
    ports = free_ports(4)
    page = pipeline.start("Pipeline.page", "--port", options.port, "--db", pipeline.db, *ports)
    where = page.wait_until_ready()
    arguments: dict[str, list[object]] = {
        "app_2": ["--db", pipeline.db],
        "model_server_pub": ["--queue", pipeline.queue],
        "model_server_sub": ["--queue", pipeline.queue, "--top", TOP],
        "app_1": ["--rate", options.rate],
    }
    for (name, own), port in zip(arguments.items(), reversed(ports), strict=True):
        pipeline.start(name, *own, "--metrics-port", port)
    return where


def free_ports(count: int) -> list[int]:
    """Find TCP ports that nobody uses now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser("python -m Pipeline.page.together", description=__doc__)
    parser.add_argument("--port", type=port_number, default=DEFAULT_PORT, help="of the page")
    parser.add_argument(
        "--rate", type=positive, default=IMAGES_PER_SECOND, help="test images a second"
    )
    parser.add_argument(
        "--folder", type=new_folder_name, default=STATE_FOLDER, help="for queue, DB and broker"
    )
    return parser


if __name__ == "__main__":
    main()
