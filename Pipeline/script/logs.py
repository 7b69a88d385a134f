"""Logging: one line per thing that a person may act on, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType

from DurableText.installation import __version__
from DurableText.program.wording import MAX_LINE, brief

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure_logging(script: str, level: str, log_format: str) -> None:
    """Send all logging to standard error.

    Args:
        script: the name that each line carries.
        level: the least level that is shown.
        log_format: `text` for people, `json` for collectors.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(script) if log_format == "json" else _TextLines(script))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if log_format == "json":
        sys.excepthook = _log_uncaught


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Write the last words of a process as JSON, too, where a collector reads it."""
    logging.getLogger(__name__).critical("ended by a defect", exc_info=(kind, error, traceback))


class _TextLines(logging.Formatter):
    """Local time with its zone, level, script and message: one line, whatever the message holds."""

    def __init__(self, script: str) -> None:
        pattern = f"%(asctime)s %(levelname)-7s {script}: %(message)s"
        super().__init__(pattern, "%Y-%m-%d %H:%M:%S%z")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base's name
        """Format one record; what follows it, a traceback, keeps its lines."""
        return brief(super().formatMessage(record), MAX_LINE)


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, script, version, logger, message, what `extra` holds."""

    def __init__(self, script: str) -> None:
        super().__init__()
        self._script = script

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "script": self._script,
            "version": __version__,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: each for name, each in vars(record).items() if name not in _STANDARD_FIELDS},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
