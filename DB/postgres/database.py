"""`PostgresDatabase`: results by id in PostgreSQL; any number of writers on any number of hosts.

An insert is one statement, which is one transaction: the results go as one JSON parameter (a fifth
of the client's work for arrays of columns), and `RETURNING` names the new ones. Only for the rest
is asked what is stored; where the results before were known, as after a kill, it is asked first: a
third of the work. Results are sorted by id: two writers that bring the same ids at once lock them
in one order, so neither waits for the other in a circle.

What is cut off in between, by a kill or a lost answer, needs no repair: the same insert again finds
what was stored as duplicates.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson
from psycopg.sql import SQL

from DB.busy import held_by
from DB.database_interface import DatabaseVerification, Row
from DB.errors import (
    DatabaseConfigurationError,
    DatabaseReplacedError,
    DatabaseUnavailableError,
)
from DB.postgres import schema, statements
from DB.postgres.errors import HINTS
from DB.postgres.session import ANSWER_SECONDS, READ_ONLY, PostgresSession
from DB.postgres.url import parse
from DB.results import (
    InsertOutcome,
    Result,
    answer_digest,
    answer_in,
    check,
    columns_of,
    shadow_key,
    sort_out,
    split_times,
)
from DB.shared_database import SharedDatabase
from DurableText.moments import timestamp
from DurableText.program.wording import counted
from DurableText.progress import Advance, uncounted

logger = logging.getLogger(__name__)

# Rows that a reader takes at a time; no transaction stays open between two of them.
ROWS_A_READ = 2000

# What is read of each table: what gives the order, the rest of the key, what is added to a result.
_READ = {
    "table": ("stored_at", ("id",), ()),
    "shadow": ("stored_at", ("id", "model"), ()),
    "conflicts": ("refused_at", ("id", "digest"), ("stored_label",)),
}


class PostgresDatabase(SharedDatabase):
    """The DB in PostgreSQL."""

    def __init__(
        self, url: str, *, read_only: bool = False, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        """Connect, and make the tables unless they are there.

        Args:
            url: `postgresql://user@host:5432/name?table=inferences`: see `url`.
            read_only: make and change nothing; connect when it is first asked for something.
            answer_seconds: how long an answer may take before the server counts as hung.

        Raises:
            DatabaseConfigurationError: the URL is wrong, the server refuses, loses what it
                confirms, or the table is somebody else's.
            DatabaseUnavailableError: the server is away.
        """
        place = parse(url)
        super().__init__(place.name, read_only=read_only)
        self._tables = schema.Tables(place)
        self._session = PostgresSession(place, answer_seconds)
        self._known = not read_only
        self._repeats = False  # most of the last results were known
        self._taken_over = 0  # rows of one insert at the source stay in order over several calls
        if not read_only:
            try:
                schema.make(self._session, self._tables, self.name)
                self._require_rights()
            except BaseException:
                self._session.close()
                raise

    # --- writing ---

    def insert(self, results: Sequence[Result]) -> InsertOutcome:
        """See `ResultDatabase.insert`."""
        return self._insert_all(results, None)

    def take_over(self, rows: Sequence[Row]) -> InsertOutcome:
        """See `ResultDatabase.take_over`."""
        results, times = split_times(rows)
        outcome = self._insert_all(results, times)
        self._taken_over += len(rows)
        return outcome

    def insert_shadow(self, results: Sequence[Result]) -> InsertOutcome:
        """See `ResultDatabase.insert_shadow`."""
        self._check_writable(len(results))
        size = check(results)
        keys = [shadow_key(result, number) for number, result in enumerate(results)]
        statements.check_lengths(keys)
        outcome = InsertOutcome()
        with self._mutex:
            for numbers in statements.portions(results, size):
                brought = statements.payload(
                    results, sorted(numbers, key=keys.__getitem__), "model"
                )
                new = {f"{i}\0{model}" for i, model in self._run(statements.INSERT_SHADOW, brought)}
                rest = [results[n]["id"] for n in numbers if keys[n] not in new]
                stored = {
                    f"{i}\0{model}": answer_in(label, digest)
                    for i, model, label, digest in self._run(
                        statements.STORED_SHADOW, statements.as_json(rest)
                    )
                }
                chosen = [results[n] for n in numbers]
                outcome += sort_out(chosen, [keys[n] for n in numbers], stored).outcome
        return outcome

    def _insert_all(self, results: Sequence[Result], times: list[str] | None) -> InsertOutcome:
        self._check_writable(len(results))
        size = check(results)
        statements.check_lengths([result["id"] for result in results])
        outcome = InsertOutcome()
        with self._mutex:
            for numbers in statements.portions(results, size):
                outcome += self._insert_portion(results, times, numbers)
        return outcome

    def _insert_portion(
        self, results: Sequence[Result], times: list[str] | None, numbers: range
    ) -> InsertOutcome:
        ids = [results[number]["id"] for number in numbers]
        # Where the last ones were known, these are, too, as a rule: they need not be sent then.
        stored = self._stored(ids) if self._repeats else {}
        order = [
            numbers[n] for n in sorted(range(len(ids)), key=ids.__getitem__) if ids[n] not in stored
        ]
        first = 0 if times is None else self._taken_over
        brought = statements.payload(results, order, times=times, first_place=first)
        new = {row[0] for row in (self._run(statements.INSERT, brought) if order else ())}
        self._repeats = len(new) < len(ids) // 2
        if len(new) == len(ids):
            return InsertOutcome(tuple(ids))
        known = [result_id for result_id in ids if result_id not in new]
        stored |= self._stored([result_id for result_id in known if result_id not in stored])
        if not stored.keys() >= set(known):  # taken away between the two statements
            raise DatabaseUnavailableError(
                f"results were removed from the DB {self.name} during the insert; insert them again"
            )
        found = sort_out([results[number] for number in numbers], ids, stored)
        assert set(found.outcome.inserted_ids) == new
        self._keep(results, [numbers[number] for number, _ in found.conflicting])
        return found.outcome

    def _stored(self, ids: list[str]) -> dict[str, str]:
        """Return what is stored under ids; see `answer_of`."""
        if not ids:
            return {}
        rows = self._run(statements.STORED, statements.as_json(ids))
        return {result_id: answer_in(label, digest) for result_id, label, digest in rows}

    def _keep(self, results: Sequence[Result], numbers: list[int]) -> None:
        """Keep conflicts, each once."""
        if not numbers:
            return
        digests = {number: answer_digest(results[number]) for number in numbers}
        order = sorted(numbers, key=lambda number: (results[number]["id"], digests[number]))
        brought = [
            {
                "id": results[number]["id"],
                "digest": digests[number],
                "place": number,
                "result": results[number],
            }
            for number in order
        ]
        for (result_id,) in self._run(statements.KEEP, statements.as_json(brought)):
            logger.error("%s: %.200s is stored with another label; kept", self.name, result_id)

    # --- reading ---

    def __iter__(self) -> Iterator[Row]:
        return (row for row, _ in self._rows_of("table"))

    def iter_shadow(self) -> Iterator[Row]:
        """See `ResultDatabase.iter_shadow`."""
        return (row for row, _ in self._rows_of("shadow"))

    def conflicts(self) -> Iterator[Row]:
        """See `ResultDatabase.conflicts`."""
        return (row for row, _ in self._rows_of("conflicts"))

    def newest(self, number: int) -> list[Row]:
        """See `ResultDatabase.newest`."""
        rows = self._read(
            "SELECT result::text, stored_at FROM {table} "
            "ORDER BY stored_at DESC, place DESC, id DESC LIMIT %s",
            number,
        )
        return [_row(text, stored_at=timestamp(moment)) for text, moment in rows]

    def count(self) -> int:
        """See `ResultDatabase.count`."""
        return int(self._read("SELECT count(*) FROM {table}")[0][0])

    def get(self, result_id: str) -> Row | None:
        """See `ResultDatabase.get`."""
        if "\0" in result_id:
            return None
        rows = self._read("SELECT result::text, stored_at FROM {table} WHERE id = %s", result_id)
        return _row(rows[0][0], stored_at=timestamp(rows[0][1])) if rows else None

    def verify(self, advance: Advance = uncounted) -> DatabaseVerification:
        """Compare each row with its columns. Pages are the server's: `pg_amcheck`, checksums."""
        found = DatabaseVerification()
        for row, (text, *_, result_id, label, digest) in self._rows_of("table", "label", "digest"):
            row.pop("stored_at")
            if row.get("id") != result_id or columns_of(row) != (label, digest):
                found.report(f"id {result_id!r}: its columns are not those of its result")
            found.rows += 1
            advance(1)
            found.bytes += len(text)
        conflicts = self._read("SELECT count(*) FROM {conflicts}")[0][0]
        if conflicts:
            where = self._tables.conflicts.as_string()
            found.notes.append(f"{counted(conflicts, 'conflict')} kept in {where}")
        return found

    def check(self, timeout: float) -> None:
        """See `ResultDatabase.check`."""
        deadline = time.monotonic() + timeout
        with held_by(self._mutex, deadline, self.name):
            self._check_usable()
            with self._session.until(deadline):
                if not schema.check(self._session, self._tables, self.name):
                    raise DatabaseReplacedError(
                        f"the tables of the DB {self.name} are gone; a start makes them anew"
                    )
                if not self._read_only:
                    self._require_rights()

    def close(self) -> None:
        """See `ResultDatabase.close`."""
        if self._opener.is_another_process:
            return
        with self._mutex:
            self._closed = True
            self._session.close()

    # --- the session ---

    def _run(self, statement: str, value: object) -> list[tuple[Any, ...]]:
        self._check_usable()
        return self._session.run(self._tables.sql(statement), [value], action="insert into")

    def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._mutex:
            self._check_usable()
            self._require_tables()
            return self._session.run(self._tables.sql(statement), values, action="read")

    def _require_tables(self) -> None:
        """Make sure, once, that the tables are there: who reads does not make them."""
        if self._known:
            return
        if not schema.check(self._session, self._tables, self.name):
            raise DatabaseUnavailableError(
                f"cannot read the DB {self.name}: it has no tables; has app_2 stored anything yet?"
            )
        self._known = True

    def _rows_of(self, table: str, *columns: str) -> Iterator[tuple[Row, tuple[Any, ...]]]:
        """Yield rows in the order in which they were stored, each with what was read of it.

        A page goes on behind the last row of the one before, by what gives the order.
        """
        moment, keys, added = _READ[table]
        order = ", ".join((moment, "place", *keys))
        marks = ", ".join(["%s"] * (2 + len(keys)))
        wanted = ", ".join(("result::text", *added, order, *columns))
        behind: tuple[Any, ...] = ()
        while True:
            where = f"WHERE ({order}) > ({marks})" if behind else ""
            statement = (
                f"SELECT {wanted} FROM {{{table}}} {where} "  # noqa: S608 (names of ours alone)
                f"ORDER BY {order} LIMIT {ROWS_A_READ}"
            )
            page = self._read(statement, *behind)
            told: dict[datetime, str] = {}  # all of one insert share theirs
            for read in page:
                row = _row(read[0])
                row.update(zip(added, read[1:], strict=False))
                at = read[1 + len(added)]
                row[moment] = told.get(at) or told.setdefault(at, timestamp(at))
                yield row, read
            if len(page) < ROWS_A_READ:
                return
            behind = page[-1][1 + len(added) :][: 2 + len(keys)]

    def _require_rights(self) -> None:
        """Make sure that results can be stored.

        Raises:
            DatabaseConfigurationError: a right is missing.
            DatabaseUnavailableError: the server takes no writes.
        """
        names = [each.as_string() for each in (self._tables.table, self._tables.conflicts)]
        values = [name for name in names for _ in range(2)]
        rows = self._session.run(SQL(statements.RIGHTS).format(), values, action="check")
        read_only, allowed = rows[0]
        if read_only == "on":
            raise DatabaseUnavailableError(f"the DB {self.name} is read only: {HINTS[READ_ONLY]}")
        if not allowed:
            raise DatabaseConfigurationError(
                f"the role may not read and write the DB {self.name}: "
                f"GRANT SELECT, INSERT ON {', '.join(names)} TO …"
            )


def _row(text: str, **added: object) -> Row:
    row = orjson.loads(text)
    found: Row = row if isinstance(row, dict) else {}
    found.update(added)
    return found
