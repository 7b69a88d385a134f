"""How a script says what happens, kept whatever code of others makes of logging.

By its own way to configure it, logging switches off all loggers that are there. Frameworks put
handlers in the place of others, or filters before them. A record that cannot be made, or a line
that cannot be formatted, would be an error at each place that says something.
"""

from __future__ import annotations

import logging
from typing import Any

# Whose loggers are the script's own: of others, code may silence what it wants.
OWN = frozenset(
    ("DB", "DurableText", "MessageBroker", "Modelling", "Pipeline", "Queue", "__main__")
)

# What a handler of the script's writes, and where to.
OF_A_HANDLER = ("level", "formatter", "stream")


class LogSettings:
    """How they are at one moment. Loggers that are made later are left alone."""

    def __init__(self) -> None:
        """Remember them."""
        root = logging.getLogger()
        self._level, self._handlers = root.level, tuple(root.handlers)
        self._below = root.manager.disable
        self._factory = logging.getLogRecordFactory()
        self._written = [(each, _of_handler(each), tuple(each.filters)) for each in self._handlers]
        loggers = [
            each
            for each in tuple(root.manager.loggerDict.values())
            if isinstance(each, logging.Logger)
        ]
        self._enabled = [each for each in loggers if not each.disabled]
        own = [each for each in loggers if each.name.partition(".")[0] in OWN]
        self._own = [(each, _of_logger(each), tuple(each.filters)) for each in (root, *own)]

    def restore(self) -> None:
        """Make them what they were."""
        root = logging.getLogger()
        if root.level != self._level:
            root.setLevel(self._level)
        if tuple(root.handlers) != self._handlers:
            root.handlers[:] = self._handlers
        root.manager.disable = self._below
        root.disabled = False
        logging.setLogRecordFactory(self._factory)
        for handler, values, filters in self._written:
            if _of_handler(handler) != values:
                vars(handler).update(values)
            if tuple(handler.filters) != filters:
                handler.filters[:] = filters
        for logger in self._enabled:
            logger.disabled = False
        for logger, (level, propagate), filters in self._own:
            if (logger.level, logger.propagate) != (level, propagate):
                logger.setLevel(level)
                logger.propagate = propagate
            if tuple(logger.filters) != filters:
                logger.filters[:] = filters


def _of_handler(handler: logging.Handler) -> dict[str, Any]:
    return {name: vars(handler)[name] for name in OF_A_HANDLER if name in vars(handler)}


def _of_logger(logger: logging.Logger) -> tuple[int, bool]:
    return logger.level, logger.propagate
