"""What goes to the server: the statements of a writer, and results as their one JSON parameter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson
from psycopg.types.json import Json

from DB.postgres import schema
from DB.results import Result, columns_of, refusal

# A statement takes so many results and bytes at most: a parameter is held in memory several times.
ROWS_A_STATEMENT = 2048
BYTES_A_STATEMENT = 8 << 20

# A character has so many bytes at most.
MAX_UTF8_BYTES = 4

INSERT = """
INSERT INTO {table} (id, label, digest, place, stored_at, result)
SELECT id, label, digest, place, coalesce(stored_at, statement_timestamp()), result
FROM json_to_recordset(%s) AS brought
    (id text, label text, digest text, place integer, stored_at timestamptz, result json)
ON CONFLICT (id) DO NOTHING RETURNING id
"""
# An array is looked for in one walk through the index, half the work of a join.
STORED = """
SELECT id, label, digest FROM {table}
WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%s)))
"""

INSERT_SHADOW = """
INSERT INTO {shadow} (id, model, label, digest, place, stored_at, result)
SELECT id, model, label, digest, place, statement_timestamp(), result
FROM json_to_recordset(%s) AS brought
    (id text, model text, label text, digest text, place integer, result json)
ON CONFLICT (id, model) DO NOTHING RETURNING id, model
"""
STORED_SHADOW = """
SELECT id, model, label, digest FROM {shadow}
WHERE id = ANY (ARRAY(SELECT json_array_elements_text(%s)))
"""

KEEP = """
INSERT INTO {conflicts} (id, digest, stored_label, place, refused_at, result)
SELECT brought.id, brought.digest, stored.result -> 'label', brought.place,
    statement_timestamp(), brought.result
FROM json_to_recordset(%s) AS brought (id text, digest text, place integer, result json)
JOIN {table} AS stored ON stored.id = brought.id
ON CONFLICT (id, digest) DO NOTHING RETURNING id
"""

RIGHTS = """
SELECT current_setting('transaction_read_only'),
    has_table_privilege(%s, 'SELECT') AND has_table_privilege(%s, 'INSERT')
    AND has_table_privilege(%s, 'SELECT') AND has_table_privilege(%s, 'INSERT')
"""


def portions(results: Sequence[Result], size: int) -> Iterator[range]:
    """Yield which results go in one statement; `size` is what all of them have in bytes."""
    if 0 < len(results) <= ROWS_A_STATEMENT and size <= BYTES_A_STATEMENT:
        yield range(len(results))
        return
    start = taken = 0
    for number, result in enumerate(results):
        more = len(orjson.dumps(dict(result)))
        full = number - start >= ROWS_A_STATEMENT or taken + more > BYTES_A_STATEMENT
        if full and number > start:
            yield range(start, number)
            start, taken = number, 0
        taken += more
    if results:
        yield range(start, len(results))


def payload(
    results: Sequence[Result],
    order: Sequence[int],
    *copied: str,
    times: list[str] | None = None,
    first_place: int = 0,
) -> Json:
    """Return results as one JSON parameter; what has no value is left out."""
    brought = []
    for number in order:
        result = results[number]
        label, digest = columns_of(result)
        row: dict[str, object] = {"id": result["id"], "place": first_place + number}
        if digest is None:
            row["label"] = label
        else:
            row["digest"] = digest
        for name in copied:
            row[name] = result[name]
        if times:
            row["stored_at"] = times[number]
        row["result"] = result
        brought.append(row)
    return as_json(brought)


def as_json(value: object) -> Json:
    """Return a value as a JSON parameter."""
    return Json(value, dumps=_dumps)


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, default=dict)  # a result may be another mapping than a dict


def check_lengths(keys: Sequence[str]) -> None:
    """Refuse what no index takes as a key.

    Raises:
        DatabaseRecordError: some of them are too long.
    """
    if max(map(len, keys), default=0) <= schema.MAX_KEY_BYTES // MAX_UTF8_BYTES:
        return
    problem = f"its id has more than the {schema.MAX_KEY_BYTES:,} bytes of a key"
    refused = {
        number: problem
        for number, key in enumerate(keys)
        if len(key.encode()) > schema.MAX_KEY_BYTES
    }
    if refused:
        raise refusal(refused)
