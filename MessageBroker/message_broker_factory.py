"""Which broker is used: an argument, an environment variable, or `broker_config.ini`."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from MessageBroker.broker_interface import BrokerInterface
from MessageBroker.configuration import (
    BROKER_CONFIG,
    DeliverySettings,
    config_folder,
    read_broker_config,
)
from MessageBroker.core.broker import BrokerCore
from MessageBroker.errors import ConfigurationError
from MessageBroker.registry import BROKER_NAMES, OWN_NAMES, handler_of

BROKER_VARIABLE = "MESSAGE_BROKER"

# What may be a misspelt name of a broker, and is no secret that was set in the wrong place.
_A_WORD = re.compile(r"[a-z-]{1,20}")


class MessageBrokerFactory:
    """Creates the handler that the settings name."""

    @staticmethod
    def get_broker(
        name: str | None = None,
        *,
        config_dir: Path | str | None = None,
        delivery: DeliverySettings | None = None,
    ) -> BrokerInterface:
        """Create the handler of a broker. It connects when it is first used.

        Args:
            name: `kafka`, `pubsub`, `local`, or one that another package brings; None for the
                environment variable `MESSAGE_BROKER`, else `[broker] name` in `broker_config.ini`.
            config_dir: the folder of the INI files that differ from the project's own; None for
                the one that `MESSAGE_BROKER_CONFIG_DIR` names.
            delivery: how messages are delivered; None for `[delivery]` in `broker_config.ini`.

        Raises:
            ConfigurationError: an unknown name, or a setting that is missing or wrong.
        """
        return MessageBrokerFactory.get_handler(name, config_dir=config_dir, delivery=delivery)

    @staticmethod
    def get_handler(
        name: str | None = None,
        *,
        config_dir: Path | str | None = None,
        delivery: DeliverySettings | None = None,
    ) -> BrokerCore:
        """Create it as `get_broker`, for what reads and settles dead letters.

        That needs more of a handler than applications may use.
        """
        folder = config_folder(Path(config_dir) if config_dir is not None else None)
        config = read_broker_config(folder)
        chosen = MessageBrokerFactory.chosen(name, folder)
        broker = handler_of(chosen).from_config(folder, delivery or config.delivery)
        broker.configured_topics = (config.topics.images, config.topics.inferences)
        return broker

    @staticmethod
    def chosen(name: str | None, folder: Path) -> str:
        """Return which broker is meant: see `get_broker`.

        Raises:
            ConfigurationError: there is none of this name.
        """
        config = read_broker_config(folder)
        candidates = (
            (name, "the argument"),
            (os.environ.get(BROKER_VARIABLE), f"the environment variable {BROKER_VARIABLE}"),
            (config.name, f"{folder / BROKER_CONFIG} [broker] name"),
        )
        chosen, said_by = next((each for each in candidates if each[0]), candidates[-1])
        if chosen is None or chosen not in BROKER_NAMES:
            shown = (
                repr(chosen) if _A_WORD.fullmatch(chosen or "") else "(a value that is not shown)"
            )
            raise ConfigurationError(
                f"{said_by} names the broker {shown}: choose one of {', '.join(BROKER_NAMES)}"
            )
        return chosen


def add_broker_option(parser: argparse._ActionsContainer, default: str | None = None) -> None:
    """Add `--broker`; by default what `get_broker` takes."""
    parser.add_argument(
        "--broker",
        choices=BROKER_NAMES,
        # The names of what is installed are looked for only when they are needed.
        metavar=f"{{{','.join(OWN_NAMES)}}}",
        default=default,
        help="default: %(default)s"
        if default
        else "default: MESSAGE_BROKER, else broker_config.ini",
    )
