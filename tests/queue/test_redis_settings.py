"""What can be wrong with the URL, the server and the rights: told by name, and exit code 2."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.exceptions as redis_exceptions

import Queue.redis.fitness
from DurableText import patience
from Queue import QueueConfigurationError, QueueError, QueueUnavailableError, Record, open_queue
from Queue.errors import QueuePassingError
from Queue.redis.errors import refused
from Queue.redis.url import parse
from tests.brokers.certificates import Authority
from tests.engines.commands import assert_says_what_to_install, imported, outcome_of
from tests.engines.redis_server import HOST, RedisServer
from tests.engines.tls_proxy import tls_in_front_of
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]
SECRET = "canary-7f3a"
RECORDS = [Record("a", b'{"id":"a"}')]


def run(url: str, *command: str, **environment: str) -> tuple[int, str]:
    """Run a command on a queue; return its exit code and all of its output."""
    return outcome_of(*(command or ("-m", "Queue", "status")), "--queue", url, **environment)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{SECRET}@host/0",
        f"redis://:{SECRET}@host",
        f"rediss://me@host/0?password={SECRET}",
        f"redis://host/0?stream=x&PASSWORD={SECRET}",
        f"unix://me:{SECRET}@/run/redis.sock",
        f"rediss://host/0?ssl_password={SECRET}",
        f"redis://:pa/{SECRET}@host/0",
        f"redis://:{SECRET}/pa@host/0",
        f"redis://:{SECRET}#x@host/0",
        f"redis://:{SECRET}?x@host/0",
        f"redis://me%3A{SECRET}@host/0",
        f"redis://host/0?stream=x;password={SECRET}",
        f"redis://host:{SECRET}/0",
    ],
)
def test_a_password_in_the_url_is_refused_and_shown_nowhere(url: str) -> None:
    with pytest.raises(QueueConfigurationError, match="REDIS_PASSWORD") as caught:
        open_queue(url)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in told.replace(url, "")
    code, output = run(url)
    assert (code, SECRET in output) == (2, False)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis:///0", "no host"),
        ("redis://ho\nst/0", "no URL has"),
        ("redis://\udcff@host/0", "no URL has"),
        ("redis://host/none", "number of the database"),
        ("redis://host/-1", "number of the database"),
        ("redis://host:port/0", "cannot be read"),
        ("redis://host:99999/0", "cannot be read"),
        ("redis://host/0?strem=x", "'strem', which is unknown"),
        ("redis://host/0?db=1", "'db', which is unknown"),
        ("redis://host/0?ssl_ca_certs=x", "unknown"),
        ("redis://host/0?stream=a&stream=b", "twice"),
        ("redis://host/0?stream={x}", "stream"),
        ("redis://host/0?stream=", "stream"),
        ("redis://host/0?consumers=few", "one, many"),
        ("redis://host/0?lease=0", "lease"),
        ("redis://host/0?lease=nan", "lease"),
        ("redis://host/0?lease=soon", "lease"),
        ("redis://host/0?max_records=0", "max_records"),
        ("redis://host/0?max_records=1e6", "max_records"),
        ("redis://host/0?replicas=-1", "replicas"),
        ("redis://host/0?durability=none", "always, server"),
        ("redis://host/0?stream", "cannot be read"),
        ("redis://host/0#x", "#"),
        ("unix://relative", "no socket"),
        ("rediss://host/0?ssl_ca_certs=/nowhere/ca.pem", "/nowhere/ca.pem"),
    ],
)
def test_a_wrong_url_is_told(url: str, said: str) -> None:
    with pytest.raises(QueueConfigurationError) as caught:
        open_queue(url)
    assert said in str(caught.value)


def test_the_name_shows_where_it_is() -> None:
    url = parse("redis://me@[::1]:7000/3?consumers=many&lease=5&max_records=10&replicas=2")
    assert url.name == "redis://me@[::1]:7000/3?stream=results"
    assert (url.shared, url.lease, url.max_records, url.replicas) == (True, 5.0, 10, 2)
    assert parse("unix:///run/r.sock?db=2").name == "unix:///run/r.sock?db=2&stream=results"
    assert parse("REDIS://Host").name == "redis://host:6379/0?stream=results"


def test_scripts_wait_for_a_server_as_for_the_broker_and_then_say_what_to_do(
    tmp_path: Path,
) -> None:
    code, output = run(
        f"redis://{HOST}:{free_port()}/0", "model_server_pub.py", "--broker", "local",
        "--wait-for-broker", "3", LOCAL_BROKER_PATH=str(tmp_path),
    )  # fmt: skip
    assert code == 1
    assert "waiting for it for 3 seconds" in output
    assert "does the server run" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "settings",
    [
        {"appendfsync": "everysec"},
        {"appendonly": "no"},
        {"maxmemory_policy": "allkeys-lru"},
        {"no_appendfsync_on_rewrite": "yes"},
    ],
)
def test_a_server_that_would_lose_what_it_confirms_is_refused_unless_it_is_said_to_be_enough(
    redis: RedisServer, settings: dict[str, str]
) -> None:
    redis.set(**settings)
    with pytest.raises(QueueConfigurationError, match="durability=server") as caught:
        open_queue(redis.url())
    (name,) = settings
    assert name.replace("_", "-") in str(caught.value)
    with open_queue(redis.url(durability="server")) as queue:
        queue.put(RECORDS)


def test_a_check_notices_that_it_would_lose_something_from_now_on(redis: RedisServer) -> None:
    with open_queue(redis.url()) as queue:
        queue.check(5.0)
        redis.set(appendfsync="everysec")
        with pytest.raises(QueueConfigurationError, match="appendfsync everysec"):
            queue.check(5.0)


def test_a_server_that_hides_its_settings_is_refused_unless_it_is_said_to_be_enough(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = ("on", "nopass", "~*", "+@all", "-config")
    redis.ask("ACL", "SETUSER", "limited", *rules)
    url = redis.url().replace("://", "://limited@")
    with pytest.raises(QueueConfigurationError, match="durability=server"):
        open_queue(url)
    with open_queue(f"{url}&durability=server") as queue:
        queue.put(RECORDS)


def test_a_right_that_is_missing_is_told(redis: RedisServer) -> None:
    redis.ask("ACL", "SETUSER", "limited", "on", "nopass", "~*", "+@all", "-xadd")
    url = redis.url().replace("://", "://limited@")
    with (
        open_queue(url) as queue,
        pytest.raises(QueueConfigurationError, match=r"NOPERM .*ACL"),
    ):
        queue.put(RECORDS)


@pytest.mark.parametrize("consumers", ["one", "many"])
def test_the_rights_that_the_documentation_gives_are_enough(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, consumers: str
) -> None:
    rules = re.findall(
        r"^ACL SETUSER .*$", (ROOT / "docs" / "scaling.md").read_text(), re.MULTILINE
    )
    assert len(rules) == 2
    for rule in rules:
        redis.ask(*rule.split())
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    url = redis.url(consumers=consumers)
    with (
        open_queue(url.replace("://", "://serving@")) as queue,
        open_queue(url.replace("://", "://looking@"), read_only=True) as reader,
    ):
        queue.put(RECORDS)
        assert reader.status().depth == 1
        assert reader.status().bytes
        queue.commit(queue.take(1, timeout=5))
        queue.check(5.0)
        reader.check(5.0)
        assert reader.verify().records == 0


def test_a_server_that_is_too_old_is_refused(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Queue.redis.fitness, "OLDEST", (99, 0))
    with pytest.raises(QueueConfigurationError, match=r"99\.0 is the oldest"):
        open_queue(redis.url())


@pytest.mark.parametrize("code", ["MISCONF", "BUSY", "CLUSTERDOWN", "MASTERDOWN"])
def test_a_server_that_refuses_for_now_at_the_start_is_waited_for(code: str) -> None:
    error = redis_exceptions.ResponseError(f"{code} not now")
    assert isinstance(refused(error, "redis://host/0", None), QueueUnavailableError)


def test_a_key_of_another_kind_is_refused_and_left_alone(redis: RedisServer) -> None:
    redis.ask("SET", "results", "21")
    with pytest.raises(QueueConfigurationError, match=r"somebody else's: .*\?stream="):
        open_queue(redis.url())
    with pytest.raises(QueueConfigurationError, match="somebody else's"):
        open_queue(redis.url(), read_only=True).status()
    assert redis.ask("GET", "results") == b"21"


def test_a_stream_of_another_program_is_told_to_whoever_looks(redis: RedisServer) -> None:
    redis.ask("XADD", "results", "*", "temperature", "21")
    with pytest.raises(QueueConfigurationError, match="somebody else's"):
        open_queue(redis.url(), read_only=True).status()
    assert run(redis.url())[0] == 2


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server that wants a password."""
    with RedisServer(requirepass=SECRET) as server:
        yield server


def test_the_password_comes_from_the_environment_or_a_file(
    guarded: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", SECRET)
    with open_queue(guarded.url("a")) as queue:
        queue.put(RECORDS)
        assert SECRET not in repr(queue) + queue.name
    with open_queue(guarded.url("a").replace("://", "://default@")) as queue:
        assert queue.status().depth == 1
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(file))
    with pytest.raises(QueueConfigurationError, match="both"):
        open_queue(guarded.url("a"))
    monkeypatch.delenv("REDIS_PASSWORD")
    open_queue(guarded.url("a")).close()
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(QueueConfigurationError, match="nowhere"):
        open_queue(guarded.url("a"))


@pytest.mark.parametrize("password", ["wrong-51cd", ""])
def test_a_wrong_password_is_told_at_once_and_not_shown(
    guarded: RedisServer, password: str
) -> None:
    for command in ((), ("model_server_pub.py", "--broker", "local")):
        code, output = run(guarded.url(), *command, REDIS_PASSWORD=password)
        assert code == 2
        assert "REDIS_PASSWORD" in output
        assert "wrong-51cd" not in output
        assert "Traceback" not in output


def test_a_password_is_taken_byte_by_byte(redis: RedisServer, tmp_path: Path) -> None:
    word = b"\xff\xfe caf\xc3\xa9"
    redis.ask("ACL", "SETUSER", "odd", "on", b">" + word, "~*", "+@all")
    url = redis.url().replace("://", "://odd@")
    assert run(url, REDIS_PASSWORD=os.fsdecode(word))[0] == 1  # let in; there is no queue yet
    (tmp_path / "password").write_bytes(word + b"\n")
    assert run(url, REDIS_PASSWORD_FILE=str(tmp_path / "password"))[0] == 1
    assert run(url, REDIS_PASSWORD=os.fsdecode(word[:-1]))[0] == 2


def test_a_password_that_is_changed_in_mid_run_is_trouble_that_passes(
    guarded: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", SECRET)
    with open_queue(guarded.url("b")) as queue:
        guarded.kill()
        guarded.start()
        monkeypatch.setenv("REDIS_PASSWORD", "not-yet")
        with pytest.raises(QueueUnavailableError, match="REDIS_PASSWORD"):
            queue.put(RECORDS)
        monkeypatch.setenv("REDIS_PASSWORD", SECRET)
        queue.put(RECORDS)


def test_a_password_that_is_refused_for_too_long_is_no_trouble_that_passes(
    guarded: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "REFUSED_LOGIN_SECONDS", 0.0)
    monkeypatch.setenv("REDIS_PASSWORD", SECRET)
    with open_queue(guarded.url("b")) as queue:
        guarded.kill()
        with pytest.raises(QueueUnavailableError, match="does the server run"):
            queue.put(RECORDS)
        guarded.start()
        monkeypatch.setenv("REDIS_PASSWORD", "for good")
        with pytest.raises(QueueError, match="REDIS_PASSWORD") as raised:
            queue.put(RECORDS)
        assert not isinstance(raised.value, (QueuePassingError, QueueConfigurationError))
        monkeypatch.setenv("REDIS_PASSWORD", SECRET)
        queue.put(RECORDS)


def test_a_unix_socket(redis: RedisServer) -> None:
    url = f"unix://{redis.socket}?db=1&stream=results"
    with open_queue(url) as queue:
        queue.put(RECORDS)
        assert queue.take(1, 5).records == RECORDS
    assert open_queue(redis.url().replace("/0?", "/1?")).status().depth == 1
    with pytest.raises(QueueUnavailableError, match="does the server run"):
        open_queue("unix:///nowhere/socket")


def test_tls_and_what_can_be_wrong_with_it(tmp_path: Path, redis: RedisServer) -> None:
    authority = Authority(tmp_path / "ours")
    stranger = Authority(tmp_path / "theirs")
    issued = authority.issue("server", host=HOST)
    with tls_in_front_of(redis.port, issued.certificate, issued.key) as port:
        url = f"rediss://{HOST}:{port}/0?ssl_ca_certs="
        with open_queue(f"{url}{authority.file}") as queue:
            queue.put(RECORDS)
            assert queue.take(1, 5).records == RECORDS
        for wrong in (f"{url}{stranger.file}", f"rediss://{HOST}:{port}/0"):
            with pytest.raises(QueueConfigurationError, match="TLS"):
                open_queue(wrong)
        with pytest.raises(QueueConfigurationError, match="wants TLS"):
            open_queue(f"redis://{HOST}:{port}/0")
    with pytest.raises(QueueConfigurationError, match="has no TLS"):
        open_queue(redis.url().replace("redis://", "rediss://"))


def test_without_the_client_a_line_says_what_to_install() -> None:
    assert_says_what_to_install(
        "redis", "Queue", "status", "--queue", "redis://host/0", extra="redis"
    )


def test_nothing_of_redis_is_imported_for_a_text_file(tmp_path: Path) -> None:
    statement = "from Queue import open_queue; open_queue(sys.argv[1]).close()"
    names = ("redis", "hiredis", "Queue.text")
    assert imported(names, "model_server_pub", statement, tmp_path / "log.txt") == ["Queue.text"]
