"""Topics from before messages were kept in batches: a row for each, in the table `message`."""

from __future__ import annotations

import sqlite3
import uuid

import orjson

from MessageBroker.local.log import LOG_SCHEMA, Log, NewMessage

HAS_OLD_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'message'"

# So much makes one batch.
BATCH_MESSAGES = 256
BATCH_BYTES = 1 << 20


def upgrade(db: sqlite3.Connection) -> None:
    """Make rows into batches, inside a transaction: killed in the middle of it, nothing changed.

    Another process may have done so since the old table was seen. A program of the older version
    that has the file open fails from then on, and says that there is no such table.
    """
    if db.execute(HAS_OLD_TABLE).fetchone() is None:
        return
    db.execute(LOG_SCHEMA)
    rows = db.execute("SELECT seq, id, publish_ms, key, attributes, data FROM message ORDER BY seq")
    batch: list[NewMessage] = []
    first = size = began = 0
    for seq, message_id, publish_ms, key, attributes, data in rows:
        is_full = len(batch) >= BATCH_MESSAGES or size >= BATCH_BYTES
        if batch and (is_full or publish_ms != began or seq != first + len(batch)):
            Log.append(db, first, began, batch)
            batch, size = [], 0
        if not batch:
            first, began = seq, publish_ms
        its = orjson.loads(attributes) if attributes else {}
        batch.append(NewMessage(str(uuid.UUID(bytes=message_id)), key, its, data))
        size += len(data)
    if batch:
        Log.append(db, first, began, batch)
    db.execute("DROP TABLE message")
