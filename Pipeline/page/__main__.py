"""The pipeline in a browser: draw a digit and watch it go round; see what failed, and send it back.

python -m Pipeline.page                                   on http://127.0.0.1:8080
python -m Pipeline.page --port 9000 --broker kafka
python -m Pipeline.page 10.0.0.5:9102 9104                other scripts than localhost:9101 to 9104
python -m Pipeline.page --host 0.0.0.0 --token-file FILE  for other machines: they need the token

It shows what the scripts say on their --metrics-port, follows images by subscriptions of its own,
and reads the DB. Anything of it may be away, and come later.
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes time
    from DurableText.program import first_signals, standard_streams

    standard_streams.prepare()
    first_signals.require_posix()
    first_signals.end_quietly()

import argparse
import functools
import ipaddress
import logging
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path

from DB import DatabaseConfigurationError
from DurableText.command_line import EXIT_DONE, EXIT_FAILED, EXIT_USAGE, refusal_of
from DurableText.installation.command_line import command_parser
from DurableText.installation.extras import needs
from DurableText.program.option_types import folder_name, host_name, path_name, port_number
from MessageBroker import BrokerError, ConfigurationError, add_broker_option
from Modelling.network.checkpoint import DEFAULT_CHECKPOINT
from Pipeline.observability.overview import target
from Pipeline.script import options as opt
from Pipeline.script.logs import configure_logging
from Pipeline.stop import ScriptError, Stop

logger = logging.getLogger("page")

DEFAULT_PORT = 8080
DEFAULT_HOST = "127.0.0.1"
# What waits for a broker when the page ends may do so for this long: whatever was confirmed is
# durable, and letters that are under way are there twice, never not at all.
END_SECONDS = 10.0
# Characters of a token: what is shorter can be guessed.
SHORTEST_TOKEN = 16
# And bytes: what is longer is another file, or a device without end.
LONGEST_TOKEN = 4096


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(
        "python -m Pipeline.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("targets", nargs="*", type=target, metavar="HOST:PORT or PORT")
    parser.add_argument(
        "--port", type=port_number, default=DEFAULT_PORT, help="of the page (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        type=host_name,
        default=DEFAULT_HOST,
        metavar="ADDRESS",
        help="which others can reach; they need the token (default: %(default)s)",
    )
    parser.add_argument(
        "--token-file",
        type=path_name,
        metavar="FILE",
        help="holds the token; without it one is made for each start, where one is needed",
    )
    add_broker_option(parser)
    parser.add_argument(
        "--config-dir", type=folder_name, metavar="FOLDER", help="another folder of INI files"
    )
    opt.add_db_option(parser)
    parser.add_argument(
        "--checkpoint",
        type=path_name,
        metavar="FILE",
        default=DEFAULT_CHECKPOINT,
        help="its side file says how the model sees images (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )
    return parser


def main() -> int:
    """Serve until told to stop; return the exit code."""
    options = parser().parse_args()
    configure_logging("page", options.log_level, "text")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # that it starts and ends is said here
    stop = Stop()
    stop.on_signals()
    try:
        with needs("the page", ConfigurationError):
            from Pipeline.page.assembly import serve

        token = token_of(options)
        end_at_last(stop)
        serve(options, token, stop, ready=functools.partial(tell_where, options, token))
    except (ConfigurationError, DatabaseConfigurationError) as error:
        logger.error("%s", error)
        return EXIT_USAGE
    except ScriptError as error:
        logger.error("%s", error)
        return error.exit_code
    except (BrokerError, OSError) as error:
        logger.error("%s", refusal_of(error) if isinstance(error, OSError) else error)
        return EXIT_FAILED
    return EXIT_DONE


def end_at_last(stop: Stop) -> None:
    """End the process once it was told to stop, whatever its threads still wait for."""

    def end() -> None:
        while not stop.wait(END_SECONDS):
            pass
        time.sleep(END_SECONDS)
        logger.warning("the end took more than %g s: what was under way is left", END_SECONDS)
        os._exit(EXIT_DONE)

    threading.Thread(target=end, name="end", daemon=True).start()


def token_of(options: argparse.Namespace) -> str | None:
    """Return the token that has to be known; None where only this machine reaches the page.

    Raises:
        ScriptError: the file has none that is good enough.
    """
    if options.token_file is not None:
        return read_token(options.token_file)
    return None if is_this_machine(options.host) else secrets.token_urlsafe(24)


def read_token(path: Path) -> str:
    """Read a token; see `token_of`."""
    try:
        with path.open("rb") as opened:  # a pipe will do, as of `<(pass show page)`
            data = opened.read(LONGEST_TOKEN + 1)
        token = data.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ScriptError(f"--token-file {path} cannot be read: {why}", EXIT_USAGE) from None
    fits = len(token) >= SHORTEST_TOKEN and len(data) <= LONGEST_TOKEN
    if not fits or not token.isprintable():
        raise ScriptError(
            f"--token-file {path} must hold one line of {SHORTEST_TOKEN} to {LONGEST_TOKEN:,} "
            "characters",
            EXIT_USAGE,
        )
    return token


def is_this_machine(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tell_where(options: argparse.Namespace, token: str | None, port: int) -> None:
    """Say where the page is, and with which token if it was made for this start."""
    host = socket.gethostname() if means_all(options.host) else options.host
    shown = f"[{host}]" if ":" in host else host
    made = token is not None and options.token_file is None
    # Behind the #, which no browser sends and no log keeps.
    print(f"ready: http://{shown}:{port}/{f'login#{token}' if made else ''}", flush=True)


def means_all(host: str) -> bool:
    """Tell whether an address means all of this machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
