"""Whether a server may hold results: its version, and whether it keeps what it has confirmed."""

from __future__ import annotations

from redis.exceptions import ResponseError

from Queue.errors import QueueConfigurationError, QueueUnavailableError
from Queue.redis.session import Ask
from Queue.redis.url import RedisUrl

# Scripts with flags and XAUTOCLAIM's list of what was removed; Valkey begins with 7.2.
OLDEST = (7, 0)

# What a server must be set to for what it has confirmed to survive a kill and a power loss, and for
# a full memory to refuse new records and not to drop old ones.
KEEPS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}


def require_fitness(ask: Ask, url: RedisUrl) -> None:
    """Refuse a server that takes no records, or would lose some that it has confirmed.

    Raises:
        QueueConfigurationError: it is too old, or set up so that it loses some.
        QueueUnavailableError: it is a replica.
        RedisError: it does not answer, or refuses to.
    """
    about = _info(ask, "server")
    require_version(about, url)
    if _info(ask, "replication").get("role") == "slave":
        raise QueueUnavailableError(
            f"the server of the queue {url.name} is a replica, which takes no records; is a "
            "fail-over under way? The URL has to name the primary"
        )
    if not url.server_decides:
        _require_durability(ask, url)


def require_version(about: dict[str, str], url: RedisUrl) -> None:
    """Refuse a server that is too old.

    Raises:
        QueueConfigurationError: it is.
    """
    version = about.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        raise QueueConfigurationError(
            f"the server of the queue {url.name} is Redis {version}; {OLDEST[0]}.{OLDEST[1]} is "
            "the oldest that is known to work (any Valkey is new enough)"
        )


def _require_durability(ask: Ask, url: RedisUrl) -> None:
    otherwise = (
        "add durability=server to the URL if what the server keeps is good enough: then a kill, "
        "a power loss or a full memory may take results that it confirmed"
    )
    try:
        answer = [part.decode() for part in ask("CONFIG", "GET", *KEEPS)]
    except ResponseError as error:
        raise QueueConfigurationError(
            f"the server of the queue {url.name} does not tell how durable it is ({error}): let "
            f"the user run CONFIG GET, or {otherwise}"
        ) from error
    found = dict(zip(answer[::2], answer[1::2], strict=True))
    wrong = [f"{name} {found.get(name, '?')}" for name in KEEPS if found.get(name) != KEEPS[name]]
    if wrong:
        needed = ", ".join(f"{name} {value}" for name, value in KEEPS.items())
        raise QueueConfigurationError(
            f"the server of the queue {url.name} would lose results that it confirmed "
            f"({', '.join(wrong)}): set {needed} in its configuration, or {otherwise}"
        )


def _info(ask: Ask, section: str) -> dict[str, str]:
    lines = ask("INFO", section).decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
