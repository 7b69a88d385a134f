"""Results, each id once, durable: see `ResultDatabase`, and `open_database`, which opens one."""

from DurableText.program import first_signals

if first_signals.is_run("DB"):  # what follows takes time
    first_signals.break_off_quietly()

from DB.database_factory import DEFAULT_PATH, VARIABLE, default_database, open_database
from DB.database_interface import ResultDatabase
from DB.errors import (
    DatabaseClosedError,
    DatabaseConfigurationError,
    DatabaseError,
    DatabaseLockedError,
    DatabasePassingError,
    DatabaseRecordError,
    DatabaseReplacedError,
    DatabaseUnavailableError,
)
from DB.results import InsertOutcome
from DB.rotation import Rotation

__all__ = [
    "DEFAULT_PATH",
    "VARIABLE",
    "DatabaseClosedError",
    "DatabaseConfigurationError",
    "DatabaseError",
    "DatabaseLockedError",
    "DatabasePassingError",
    "DatabaseRecordError",
    "DatabaseReplacedError",
    "DatabaseUnavailableError",
    "InsertOutcome",
    "ResultDatabase",
    "Rotation",
    "default_database",
    "open_database",
]
