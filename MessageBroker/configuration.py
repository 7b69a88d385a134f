"""The INI files: reading them, and saying clearly what is wrong with them.

`broker_config.ini` names the broker, the pipeline's topics and the delivery settings; each handler
has a file of its own. Values may name environment variables (`${KAFKA_SASL_PASSWORD}`), where
secrets belong. Interpolation with `%` is off: passwords hold percent signs.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from MessageBroker.errors import ConfigurationError
from MessageBroker.settings import DeliverySettings

DEFAULT_CONFIG_DIR = Path(__file__).resolve().parent
BROKER_CONFIG = "broker_config.ini"

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A whole value, or the part to fill in of one, as in the shipped files. Not any `<...>` inside a
# value: a password may hold one.
_UNFILLED = re.compile(r"^<[^<>]*>$|<YOUR [^<>]*>")


class IniFile:
    """One INI file. Every error names the file, the section and the key.

    Values do not show in its repr: they may be secrets.
    """

    def __init__(self, path: Path, sections: Collection[str]) -> None:
        """Read `path`.

        Args:
            path: the file.
            sections: the sections that it may have.

        Raises:
            ConfigurationError: it is missing, is no INI file, or has another section.
        """
        self.path = path
        # No default section: [default] is a section like the others here.
        self._parser = configparser.ConfigParser(
            interpolation=None, default_section="", strict=True, inline_comment_prefixes=None
        )
        self._parser.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            text = path.read_text(encoding="utf-8")
            self._parser.read_string(text, source=path.name)
        except OSError as error:
            raise ConfigurationError(
                f"{path}: cannot be read ({error.strerror}): name the folder of the INI files "
                "with --config-dir"
            ) from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path}: is not UTF-8 text: save it as UTF-8") from None
        except configparser.Error as error:
            raise ConfigurationError(f"{path}: {_describe(error)}") from None
        unknown = [name for name in self._parser.sections() if name not in sections]
        if unknown:
            known = ", ".join(f"[{name}]" for name in sections)
            raise ConfigurationError(
                f"{path}: unknown section [{unknown[0]}]: the sections of this file are {known}"
            )

    def section(
        self,
        section: str,
        keys: Collection[str] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Return a section with its variables filled in; `{}` if it is not there.

        Args:
            section: its name.
            keys: the keys that it may have; None for any.
            overrides: values that win over the file's, which then may be unfilled.

        Raises:
            ConfigurationError: an unknown key, an unfilled value, or a variable that is not set.
        """
        overrides = overrides or {}
        raw = dict(self._parser.items(section)) if self._parser.has_section(section) else {}
        for key in raw:
            if keys is not None and key not in keys:
                raise ConfigurationError(
                    f"{self.where(section, key)} is unknown: the keys of this section are "
                    f"{', '.join(sorted(keys))}"
                )
        filled = {
            key: self._fill(section, key, value)
            for key, value in raw.items()
            if key not in overrides
        }
        return {**filled, **overrides}

    def where(self, section: str, key: str) -> str:
        """Name a place in this file, for an error."""
        return f"{self.path} [{section}] {key}"

    def _fill(self, section: str, key: str, value: str) -> str:
        unfilled = _UNFILLED.search(value)
        if not value or unfilled:
            shown = f"is still {unfilled.group()!r}" if unfilled else "is empty"
            raise ConfigurationError(f"{self.where(section, key)} {shown}: fill it in")

        def lookup(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in os.environ:
                raise ConfigurationError(
                    f"{self.where(section, key)} names the environment variable {name}, which is "
                    f"not set: export {name}=..."
                )
            return os.environ[name]

        return _VARIABLE.sub(lookup, value)


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


def read_broker_config(config_dir: Path | None = None) -> BrokerConfig:
    """Read `broker_config.ini`.

    Args:
        config_dir: the folder of the INI files; None for the project's own.

    Raises:
        ConfigurationError: the file is missing or wrong.
    """
    ini = IniFile((config_dir or DEFAULT_CONFIG_DIR) / BROKER_CONFIG, _SECTIONS)
    name = ini.section("broker", {"name"}).get("name", "kafka")
    topics = TopicNames(**ini.section("topics", {each.name for each in fields(TopicNames)}))
    if topics.images == topics.inferences:
        raise ConfigurationError(
            f"{ini.path} [topics] images and inferences are both {topics.images!r}: results would "
            "come back as images; give each a topic of its own"
        )
    return BrokerConfig(name, topics, _delivery_settings(ini))


_SECTIONS = ("broker", "topics", "delivery")


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


def _describe(error: configparser.Error) -> str:
    """Say what is wrong with an INI file without showing its lines: they may hold secrets."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno}: a line before the first [section]: add the section's header"
    if isinstance(error, configparser.ParsingError):
        lines = ", ".join(str(number) for number, _ in error.errors)
        return f"line {lines}: neither a [section] nor `key = value`: mend or remove it"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno}: [{error.section}] {error.option} stands there twice: keep one"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno}: [{error.section}] stands there twice: join them"
    return f"is no INI file ({type(error).__name__})"
