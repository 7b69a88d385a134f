"""`ResultDatabase`: results by id, durable, each once. The contract of every engine stands here.

`open_database` in `database_factory` makes one of a path or a URL.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from DB.errors import DatabaseConfigurationError
from DB.results import InsertOutcome, Result
from DB.summary import RowTally, Summary
from DurableText.findings import MAX_PROBLEMS, Findings
from DurableText.program.closing import ClosedAtExit
from DurableText.progress import Advance, uncounted

Row = dict[str, Any]


@dataclass
class DatabaseVerification(Findings):
    """What a reading of the whole DB has found.

    Attributes:
        rows: intact rows.
        bytes: size of what was read.
    """

    rows: int = 0
    bytes: int = 0

    def __add__(self, other: DatabaseVerification) -> DatabaseVerification:
        return DatabaseVerification(
            [*self.problems, *other.problems][:MAX_PROBLEMS],
            self.problem_count + other.problem_count,
            [*self.notes, *other.notes],
            self.rows + other.rows,
            self.bytes + other.bytes,
        )


class ResultDatabase(ClosedAtExit):
    """A DB of results. Any thread may use it.

    Whatever engine stands behind it:

    * A result is a JSON object with a text `id`. The DB stores it as it is and adds `stored_at`.
    * What an `insert` returned for is durable.
    * An id is stored once. The second time it is a duplicate; if it says something else (another
      label; without a label, another value of any field that is not reserved) it is a conflict,
      which is reported, kept once beside the results, and changes nothing.
    * What no engine could store is refused before any engine sees it, and costs itself alone: no
      JSON object, no id, a reserved name, the character NUL, half of a surrogate pair, 1 MiB.
    * After any error the same insert again is right.
    * Memory stays bounded, whatever the number of rows.

    One that was opened to read changes nothing, waits for nobody, and works while others write.

    Attributes:
        name: where it is, for logs and errors; without secrets.
        shared: several processes write at once. Else one writes, and others stand by until it ends.
        path: the file that it is; None where a server keeps it.
    """

    name: str
    shared: bool
    path: Path | None = None

    @abstractmethod
    def insert(self, results: Sequence[Result]) -> InsertOutcome:
        """Store results that are not stored yet; they are durable when it returns.

        Args:
            results: JSON objects with a text `id`; `stored_at` and `crc` belong to the DB.

        Returns:
            Which were stored, which were there already, and which were there saying something else.

        Raises:
            DatabaseRecordError: one of them cannot be stored; nothing of this insert is written.
            DatabasePassingError: the engine is away or refuses for now, or did not answer in time.
            DatabaseReplacedError: the DB is no longer what was opened.
            DatabaseConfigurationError: it refuses for good: a right is missing.
            DatabaseClosedError: the DB is closed, or was opened to read.
        """

    @abstractmethod
    def take_over(self, rows: Sequence[Row]) -> InsertOutcome:
        """Store rows of another DB, as iteration gave them; they keep their `stored_at`.

        Raises:
            The same as `insert`.
        """

    @abstractmethod
    def insert_shadow(self, results: Sequence[Result]) -> InsertOutcome:
        """Store what another model says, apart from the results and by `id` and `model`.

        Conflicts are reported and not kept.

        Raises:
            The same as `insert`; `DatabaseRecordError` also for one without a text `model`.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[Row]:
        """Yield the stored results, oldest first; what is corrupt is passed over.

        Raises:
            DatabaseUnavailableError: it is not there, or cannot be read.
            DatabaseClosedError: it is closed, or was closed in the middle of it.
        """

    @abstractmethod
    def iter_shadow(self) -> Iterator[Row]:
        """Yield what was stored by `insert_shadow`, oldest first; raises as iteration does."""

    @abstractmethod
    def conflicts(self) -> Iterator[Row]:
        """Yield the conflicts that were kept, with `stored_label` and `refused_at`."""

    @abstractmethod
    def newest(self, number: int) -> list[Row]:
        """Return the last rows stored, newest first."""

    @abstractmethod
    def count(self) -> int:
        """Return how many results are stored."""

    @abstractmethod
    def get(self, result_id: str) -> Row | None:
        """Return the row with an id; None if it is not stored."""

    @abstractmethod
    def verify(self, advance: Advance = uncounted) -> DatabaseVerification:
        """Read everything and tell what is wrong, in bounded memory.

        Args:
            advance: is told how many more rows are read.
        """

    @abstractmethod
    def check(self, timeout: float) -> None:
        """Make sure that results can be stored: the engine answers, durability is as promised.

        Raises:
            DatabaseUnavailableError: it did not answer within `timeout` seconds, or is read only.
            DatabaseReplacedError, DatabaseConfigurationError, DatabaseClosedError: as `insert`.
        """

    def rotate(self, keep: int | None = None) -> tuple[Path | None, list[Path]]:  # noqa: ARG002
        """Begin a new part now, if there is any row, and drop the oldest.

        Args:
            keep: so many parts stay; None keeps all.

        Returns:
            The part that is complete now, and those that are gone, whose ids nobody knows any more.

        Raises:
            DatabaseConfigurationError: this engine has no parts: a server has means of its own.
            DatabasePassingError, DatabaseReplacedError, DatabaseClosedError: as `insert`.
        """
        raise DatabaseConfigurationError(f"{self.name} has no parts to rotate: a text DB has")

    def copy_to(self, folder: Path) -> None:  # noqa: ARG002
        """Copy the DB into an empty folder, durably, while it is in use: for a backup.

        Raises:
            DatabaseConfigurationError: a server keeps it, and has means of its own.
            DatabaseUnavailableError: it is not there, or cannot be read.
            OSError: the copy cannot be written.
        """
        raise DatabaseConfigurationError(f"{self.name} is its server's to copy: by pg_dump, say")

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds; twice is fine. In a child made by fork it does nothing."""

    def summary(self, advance: Advance = uncounted) -> Summary:
        """Read all results and return what a person wants to know of them.

        Args:
            advance: is told how many more rows are read.

        Raises:
            The same as iteration.
        """
        tally = RowTally()
        for row in self:
            tally.add(row)
            advance(1)
        return tally.finish()
