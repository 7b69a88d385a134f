"""An INI file: reading it, and saying clearly what is wrong with it.

Files are read as people write them: with a byte order mark, quotes around values, and comments
behind them. Values may name environment variables (`${KAFKA_SASL_PASSWORD}`), where secrets belong;
what a variable holds is taken as it is. Interpolation with `%` is off: passwords hold percents.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from MessageBroker.environment import home_of, secret
from MessageBroker.errors import ConfigurationError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A whole value, or the part to fill in of one, as in the shipped files. Not any `<...>` inside a
# value: a password may hold one.
_UNFILLED = re.compile(r"^<[^<>]*>$|<YOUR [^<>]*>")
_QUOTED = re.compile(r"""(["'])(?P<inside>.*)\1\s*([#;].*)?""")
_COMMENT = re.compile(r"(^|\s+)[#;].*")
# A comment behind such a value may as well be its end: nobody can tell, and it cannot be shown.
_SECRET = re.compile(r"password|secret|token", re.IGNORECASE)


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
            text = path.read_text(encoding="utf-8-sig")
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

    def path_of(self, value: str) -> Path:
        """Make a path of a value: relative to this file, and `~` is the home."""
        return self.path.parent / home_of(value)

    def where(self, section: str, key: str) -> str:
        """Name a place in this file, for an error."""
        return f"{self.path} [{section}] {key}"

    def _fill(self, section: str, key: str, written: str) -> str:
        value = self._plain(section, key, written)
        unfilled = _UNFILLED.search(value)
        if not value or unfilled:
            shown = f"is still {unfilled.group()!r}" if unfilled else "is empty"
            raise ConfigurationError(f"{self.where(section, key)} {shown}: fill it in")

        def lookup(match: re.Match[str]) -> str:
            name = match.group(1)
            found = secret(name)
            if found is None:
                raise ConfigurationError(
                    f"{self.where(section, key)} names the environment variable {name}, which is "
                    f"not set: export {name}=..., or {name}_FILE=<a file that holds it>"
                )
            return found

        return _VARIABLE.sub(lookup, value)

    def _plain(self, section: str, key: str, written: str) -> str:
        """Leave out quotes around a value, and a comment behind it."""
        quoted = _QUOTED.fullmatch(written)
        if quoted and quoted["inside"].count(quoted[1]) == 0:
            return quoted["inside"]
        comment = _COMMENT.search(written)
        if comment is None:
            return written
        if _SECRET.search(key):
            raise ConfigurationError(
                f"{self.where(section, key)} holds a '#' or ';' where a comment may begin: put "
                "quotes around the value, or keep it in an environment variable"
            )
        return written[: comment.start()]


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
