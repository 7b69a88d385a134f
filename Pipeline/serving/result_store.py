"""What `app_2.py` does with a batch: store the results durably, then ack; dead-letter the rest."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from DB import (
    DatabaseLockedError,
    DatabasePassingError,
    DatabaseRecordError,
    DatabaseUnavailableError,
    InsertOutcome,
    ResultDatabase,
    Rotation,
    open_database,
)
from DurableText.command_line import EXIT_USAGE
from DurableText.program.urls import scheme_of
from MessageBroker import Message, Subscription
from Pipeline.events import EventError, parse_result
from Pipeline.observability.waiting import Reason
from Pipeline.script.script import Script
from Pipeline.script.start_up import Server
from Pipeline.serving.dead_letters import Rejected, move_away
from Pipeline.serving.standby import Turn
from Pipeline.stop import ScriptError, StoppedError

NO_INFERENCE_EVENT = "no inference event"


Result = tuple[Message, dict[str, Any]]


def open_db(script: Script) -> ResultDatabase:
    """Open the DB; while another app_2 holds it, stand by, and let the metrics say so.

    A server may come up later, as the broker may; a file that cannot be used is told at once.

    Raises:
        StoppedError: the script shall stop, and still stood by.
        DatabaseError: it cannot be used.
    """
    where = script.options.db
    turn = Turn(where, script.metrics)

    def shall_end() -> bool:  # asked only while another one holds the DB
        turn.wait()
        return script.stop.requested

    def attempt(_seconds_left: float) -> ResultDatabase:
        return open_database(where, stop=shall_end, rotation=rotation_of(script.options))

    try:
        if scheme_of(where) is None:
            db = script.once_there_is_room(lambda: attempt(0.0), Reason.DB)
        else:
            server = Server(DatabaseUnavailableError, Reason.DB, {"db": "server"})
            db = script.once_it_answers(attempt, server)
    except DatabaseLockedError as error:
        raise StoppedError from error
    turn.begin()
    return db


def rotation_of(options: argparse.Namespace) -> Rotation | None:
    """Return when a text DB begins a new part; None for never.

    Raises:
        ScriptError: parts are to be removed that nothing makes.
    """
    if options.rotate_bytes is None and options.rotate_days is None:
        if options.keep is not None:
            raise ScriptError("--keep needs --rotate-bytes or --rotate-days", EXIT_USAGE)
        return None
    return Rotation(options.rotate_bytes, options.rotate_days, options.keep)


class ResultStore:
    """Stores batches of results."""

    def __init__(self, script: Script, db: ResultDatabase, subscription: Subscription) -> None:
        self._script = script
        self._db = db
        self._subscription = subscription

    def store(self, messages: list[Message]) -> None:
        """Store a batch, waiting out a DB that is full or away. Acked is only what is durable."""
        results, shadows, rejected = _sort(messages)
        rejected += self._insert_fitting(results, self._insert)
        rejected += self._insert_fitting(shadows, self._insert_shadows)
        move_away(self._script, self._subscription, rejected)

    def _insert_fitting(
        self, results: list[Result], insert: Callable[[list[Result]], None]
    ) -> list[Rejected]:
        """Insert what the DB takes; return what it refuses."""
        if not results:
            return []
        try:
            insert(results)
        except DatabaseRecordError as error:  # nothing was stored
            refused = error.refused
            if len(results) == 1:
                refused = {0: str(error)}
            if not refused:  # the engine does not tell which
                middle = len(results) // 2
                first, second = results[:middle], results[middle:]
                return self._insert_fitting(first, insert) + self._insert_fitting(second, insert)
            rest = [each for number, each in enumerate(results) if number not in refused]
            return [
                Rejected(results[number][0], NO_INFERENCE_EVENT, problem)
                for number, problem in refused.items()
            ] + self._insert_fitting(rest, insert)
        return []

    def _insert(self, results: list[Result]) -> None:
        records = [record for _, record in results]
        with self._script.tracing.spans("store result", records):
            outcome: InsertOutcome | None = self._script.wait_out(
                {DatabasePassingError: Reason.DB}, lambda: self._db.insert(records)
            )
        if outcome is None:
            return  # stopping: un-acked, so it comes again
        self._subscription.ack([message for message, _ in results])
        if outcome.inserted:
            self._script.metrics.stored(_new(records, outcome))
        tally = self._script.tally
        tally.add(outcome.inserted)
        tally.duplicates += outcome.duplicates
        tally.conflicts += outcome.conflicts

    def _insert_shadows(self, results: list[Result]) -> None:
        """Keep what shadows say, beside the DB."""
        records = [record for _, record in results]
        outcome = self._script.wait_out(
            {DatabasePassingError: Reason.DB}, lambda: self._db.insert_shadow(records)
        )
        if outcome is not None:
            self._subscription.ack([message for message, _ in results])


def _new(records: list[dict[str, Any]], outcome: InsertOutcome) -> list[dict[str, Any]]:
    """Return the records that were new to the DB."""
    if outcome.inserted == len(records):
        return records
    inserted = set(outcome.inserted_ids)
    return [record for record in records if record["id"] in inserted]


def _sort(messages: list[Message]) -> tuple[list[Result], list[Result], list[Rejected]]:
    """Tell results, what shadows say, and what is neither."""
    results: list[Result] = []
    shadows: list[Result] = []
    rejected: list[Rejected] = []
    for message in messages:
        try:
            record, is_of_shadow = parse_result(message)
        except EventError as error:
            rejected.append(Rejected(message, NO_INFERENCE_EVENT, error))
        else:
            (shadows if is_of_shadow else results).append((message, record))
    return results, shadows, rejected
