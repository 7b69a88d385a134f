"""`broker_config.ini`: the broker, the pipeline's topics, and how messages are delivered.

It is the same for every broker; each handler has a file of its own beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from DurableText.installation.places import user_config_folder
from MessageBroker.environment import home_of, shown_path, variable
from MessageBroker.errors import ConfigurationError
from MessageBroker.ini_file import IniFile

DEFAULT_CONFIG_DIR = Path(__file__).resolve().parent
CONFIG_DIR_VARIABLE = "MESSAGE_BROKER_CONFIG_DIR"
BROKER_CONFIG = "broker_config.ini"
_SECTIONS = ("broker", "topics", "delivery")


@dataclass(frozen=True)
class DeliverySettings:
    """Settings of `[delivery]` in `broker_config.ini`.

    Attributes:
        max_delivery_attempts: nacks after which a message goes to the dead-letter topic.
        min_backoff: seconds until a message comes again after its first nack.
        max_backoff: seconds that the back-off, doubled with each nack, never exceeds.
        max_lease_seconds: how long a live consumer may keep a message un-acked; then others get
            it.
        max_outstanding_messages: un-acked messages at which a subscription hands out no more.
        max_outstanding_bytes: the same in bytes of data. The messages of one fetch may exceed it.
    """

    max_delivery_attempts: int = 5
    min_backoff: float = 0.5
    max_backoff: float = 60.0
    max_lease_seconds: float = 3600.0
    # Several batches of a model server, so that decoding, predicting and acking overlap.
    max_outstanding_messages: int = 4096
    # Nine messages of the largest size; 72,000 of MNIST's.
    max_outstanding_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be more than 0 and finite, not {value}")
        if self.min_backoff > self.max_backoff:
            raise ValueError(
                f"min_backoff ({self.min_backoff}) is more than max_backoff ({self.max_backoff})"
            )


@dataclass(frozen=True)
class TopicNames:
    """The topics of the pipeline (`[topics]`)."""

    images: str = "new_image_topic"
    inferences: str = "inference_topic"


@dataclass(frozen=True)
class BrokerConfig:
    """What `broker_config.ini` says."""

    name: str
    topics: TopicNames
    delivery: DeliverySettings


def config_folder(config_dir: Path | None) -> Path:
    """Return the folder of the INI files: the one that is given, that of the environment, or ours.

    Installed, ours is the user's own where there is one.

    Raises:
        ConfigurationError: it is no folder.
    """
    named = variable(CONFIG_DIR_VARIABLE)
    if config_dir is None and named is None:
        users = user_config_folder()
        return users if users is not None and _can_be_seen(users) else DEFAULT_CONFIG_DIR
    folder = config_dir if config_dir is not None else home_of(named or "")
    if not folder.is_dir():
        said = "--config-dir" if config_dir is not None else CONFIG_DIR_VARIABLE
        state = "is no folder" if folder.exists() else "is not there"
        raise ConfigurationError(
            f"{said} names the folder {shown_path(str(folder))}, which {state}: it must hold the "
            "INI files"
        )
    return folder


def _can_be_seen(folder: Path) -> bool:
    """Tell whether there is a folder that nobody named; one behind what is hidden is not there.

    A service that systemd gives no homes (`ProtectHome=yes`), or a container whose user is another
    than that of `HOME`, may not even ask.
    """
    try:
        return folder.is_dir()
    except OSError:
        return False


def ini_file(config_dir: Path | None, name: str, sections: Collection[str]) -> IniFile:
    """Read an INI file: that of the folder, or the project's own where the folder has none.

    Raises:
        ConfigurationError: it is wrong.
    """
    path = config_folder(config_dir) / name
    return IniFile(path if path.exists() else DEFAULT_CONFIG_DIR / name, sections)


def read_broker_config(config_dir: Path | None = None) -> BrokerConfig:
    """Read `broker_config.ini`.

    Args:
        config_dir: the folder of the INI files; None for that of the environment, else ours.

    Raises:
        ConfigurationError: it is wrong.
    """
    ini = ini_file(config_dir, BROKER_CONFIG, _SECTIONS)
    name = ini.section("broker", {"name"}).get("name", "kafka")
    topics = TopicNames(**ini.section("topics", {each.name for each in fields(TopicNames)}))
    if topics.images == topics.inferences:
        raise ConfigurationError(
            f"{ini.path} [topics] images and inferences are both {topics.images!r}: results would "
            "come back as images; give each a topic of its own"
        )
    return BrokerConfig(name, topics, _delivery_settings(ini))


def _delivery_settings(ini: IniFile) -> DeliverySettings:
    types: Mapping[str, type] = {each.name: type(each.default) for each in fields(DeliverySettings)}
    values: dict[str, float] = {}
    for key, text in ini.section("delivery", set(types)).items():
        try:
            values[key] = types[key](text)
        except ValueError:
            kind = "a whole number" if types[key] is int else "a number"
            raise ConfigurationError(
                f"{ini.where('delivery', key)} is {text!r}: it must be {kind}"
            ) from None
    try:
        return DeliverySettings(**values)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigurationError(f"{ini.path} [delivery] {error}") from None
