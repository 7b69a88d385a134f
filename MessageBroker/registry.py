"""Which brokers there are: those of this project, those of other packages, and registered ones.

A package brings a broker by an entry point, and `--broker nats` finds it once it is installed:

    [project.entry-points."edms.brokers"]
    nats = "nats_for_edms.handler:NatsHandler"

A program may name one for itself by `register_broker`. A handler is imported only when it is asked
for: nobody needs the client library of a broker that they do not use.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator

from DurableText.installation.extras import needs
from MessageBroker.core.broker import BrokerCore
from MessageBroker.errors import ConfigurationError

ENTRY_POINTS = "edms.brokers"

_OWN = {
    "kafka": "MessageBroker.kafka_handler:KafkaHandler",
    "pubsub": "MessageBroker.google_pubsub_handler:PubSubHandler",
    "local": "MessageBroker.local_handler:LocalHandler",
}
OWN_NAMES = tuple(_OWN)
_registered: dict[str, type[BrokerCore]] = {}


class BrokerNames(Collection[str]):
    """The names of all brokers. What is installed is looked for only if a name is not known."""

    def __contains__(self, name: object) -> bool:
        return name in _OWN or name in _registered or name in _installed()

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*_OWN, *_registered, *_installed()))

    def __len__(self) -> int:
        return len(tuple(iter(self)))


BROKER_NAMES = BrokerNames()


def register_broker(name: str, handler: type[BrokerCore]) -> None:
    """Let a name stand for a handler, in this process.

    Args:
        name: of the broker, as `--broker` and `MESSAGE_BROKER` give it.
        handler: a class with the constructor `from_config`; see `docs/writing_a_handler.md`.

    Raises:
        ValueError: the name is one of this project's own.
    """
    if name in _OWN:
        raise ValueError(f"{name!r} is a broker of this project: choose another name")
    _registered[name] = handler


def handler_of(name: str) -> type[BrokerCore]:
    """Import the handler of a broker that is in `BROKER_NAMES`.

    Raises:
        ConfigurationError: its client library is missing, or what an entry point names is none.
    """
    if name in _registered:
        return _registered[name]
    target = _OWN.get(name) or _installed()[name]
    module, _, class_name = target.partition(":")
    with needs(f"the broker {name}", ConfigurationError):
        imported = importlib.import_module(module)
    handler = getattr(imported, class_name, None)
    if not (isinstance(handler, type) and issubclass(handler, BrokerCore)):
        raise ConfigurationError(
            f"the entry point {name!r} of {ENTRY_POINTS} names {target}, which is no subclass of "
            "MessageBroker.core.broker.BrokerCore"
        )
    return handler


def _installed() -> dict[str, str]:
    from importlib import metadata  # a tenth of a script's start, and most name a broker of ours

    return {each.name: each.value for each in metadata.entry_points(group=ENTRY_POINTS)}
