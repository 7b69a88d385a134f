"""What a property of the clients must not be, told before the client library is asked.

The library repeats values in its errors, obeys second names of properties beside the first ones,
and takes no notice of what it cannot use. Values are not shown here: any of them may be a secret
that was put into the wrong place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from MessageBroker.addresses import plain_address, without_scheme
from MessageBroker.environment import shown_path
from MessageBroker.errors import ConfigurationError
from MessageBroker.kafka.lingering import LONGEST_LINGER_MS

# The library's other names for a property, and the one that is used here.
SECOND_NAMES = {
    "auto.commit.enable": "enable.auto.commit",
    "compression.codec": "compression.type",
    "delivery.timeout.ms": "message.timeout.ms",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
    "message.send.max.retries": "retries",
    "metadata.broker.list": "bootstrap.servers",
    "queue.buffering.max.ms": "linger.ms",
    "request.required.acks": "acks",
    "sasl.mechanism": "sasl.mechanisms",
}
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
# Those that log in with a user's name and password.
NAMED_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
MECHANISMS = (*NAMED_MECHANISMS, "OAUTHBEARER", "GSSAPI")
_CHOICES = {"security.protocol": PROTOCOLS, "sasl.mechanisms": MECHANISMS}
# Where these come from, when not from the file.
VARIABLES = {
    "bootstrap.servers": "KAFKA_BOOTSTRAP_SERVERS",
    "security.protocol": "KAFKA_SECURITY_PROTOCOL",
    "sasl.mechanisms": "KAFKA_SASL_MECHANISM",
    "sasl.username": "KAFKA_SASL_USERNAME",
    "sasl.password": "KAFKA_SASL_PASSWORD",
    "ssl.ca.location": "KAFKA_SSL_CA_LOCATION",
}
LOGIN = ("sasl.username", "sasl.password")

FILE_SUFFIX = ".location"
# `probe` lets the library look for the authorities of the system.
_NO_FILE = {"ssl.ca.location": "probe"}
MAX_PORT = 65535
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
LIST_OF_PROPERTIES = "https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md"


def place(name: str, section: str = "default") -> str:
    """Name where a property is set."""
    variable = f" ({VARIABLES[name]})" if name in VARIABLES else ""
    return f"kafka_config.ini [{section}] {name}{variable}"


def plain_servers(servers: str) -> str:
    """Leave out what people write around addresses."""
    parts = map(plain_address, servers.split(","))
    return ",".join(part for part in parts if part)


def names_a_file(name: str, value: str) -> bool:
    """Tell whether a property's value is a path."""
    return name.endswith(FILE_SUFFIX) and value != _NO_FILE.get(name)


def check_properties(section: str, properties: Mapping[str, str]) -> None:
    """Look at the properties of one section.

    Raises:
        ConfigurationError: one of them is refused by name, or its value cannot be right.
    """
    for name, value in properties.items():
        where = place(name, section)
        if name in SECOND_NAMES:
            raise ConfigurationError(
                f"{where} is a second name of {SECOND_NAMES[name]}: write that name instead"
            )
        _check_text(where, value)
        choices = _CHOICES.get(name)
        if choices and value.upper() not in choices:
            raise ConfigurationError(
                f"{where} is none of {', '.join(choices)}: set it to one of them"
            )
        if name == "linger.ms" and not _is_a_time(value):
            raise ConfigurationError(
                f"{where}: that is no number of milliseconds from 0 to {LONGEST_LINGER_MS}: "
                "correct it, or remove the line"
            )
        if name == "bootstrap.servers":
            _check_servers(where, value, properties.get("security.protocol", "PLAINTEXT"))
        if name in LOGIN and len(value.splitlines()) > 1:
            raise ConfigurationError(
                f"{where} holds more than one line: it must be the text that the broker knows, and "
                "nothing else"
            )
        if names_a_file(name, value):
            _check_file(where, value)


def check_login(properties: Mapping[str, str]) -> None:
    """Make sure that a user or password that was set is used, and that one that is needed is set.

    Raises:
        ConfigurationError: the protocol would not send it, or cannot do without it.
    """
    protocol = properties.get("security.protocol", "")
    if protocol.upper().startswith("SASL"):
        _check_what_a_login_needs(properties)
    for name in LOGIN:
        if properties.get(name) and not protocol.upper().startswith("SASL"):
            state = "is not set" if not protocol else "takes no login"
            raise ConfigurationError(
                f"{place(name)} is set, but {place('security.protocol')} {state}, so it would not "
                "be used: set the protocol to SASL_SSL (and sasl.mechanisms), or remove user and "
                "password"
            )


def _check_what_a_login_needs(properties: Mapping[str, str]) -> None:
    mechanism = properties.get("sasl.mechanisms", "")
    needed = LOGIN if mechanism.upper() in NAMED_MECHANISMS else ()
    for name in ("sasl.mechanisms", *needed):
        if not properties.get(name):
            choice = f" to one of {', '.join(MECHANISMS)}" if name == "sasl.mechanisms" else ""
            raise ConfigurationError(
                f"{place('security.protocol')} is that of a login, but {place(name)} is not set: "
                f"set it{choice}"
            )


def _is_a_time(value: str) -> bool:
    try:
        return 0 <= float(value) <= LONGEST_LINGER_MS
    except ValueError:
        return False


def _check_text(where: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{where} is not UTF-8: write it again, in UTF-8") from None
    if "\0" in value:
        raise ConfigurationError(f"{where} holds a zero byte: write it again, without")


def _check_servers(where: str, servers: str, protocol: str) -> None:
    for server in servers.split(","):
        if "@" in server:
            raise ConfigurationError(
                f"{where} holds a user or password before an '@': put them into sasl.username and "
                "sasl.password, and only host:port here"
            )
        found = _SERVER.fullmatch(without_scheme(server))
        if found is None or not 0 < int((found[2] or ":9092")[1:]) <= MAX_PORT:
            raise ConfigurationError(f"{where} must be host:port,host:port: correct it")
        scheme, separator, _ = server.partition("://")
        if separator and scheme.strip().upper() != protocol.upper():  # the library ignores it
            raise ConfigurationError(
                f"{where} has another protocol before '://' than security.protocol "
                "(KAFKA_SECURITY_PROTOCOL) says: write host:port alone, and the protocol there"
            )


def _check_file(where: str, value: str) -> None:
    try:
        if Path(value).is_dir() or os.access(value, os.R_OK):
            return
        reason = "may not be read" if Path(value).exists() else "is not there"
    except (OSError, ValueError):
        reason = "cannot be read"
    raise ConfigurationError(f"{where} names {shown_path(value)}, which {reason}: correct it")
