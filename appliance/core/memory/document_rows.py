"""Rows of the table of documents, and the queries on it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Head, Kind, Meta, Record
from appliance.errors import InvalidArgumentsError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LATEST = (datetime(9999, 12, 31, tzinfo=UTC) - EPOCH).total_seconds()
"""Seconds since the epoch; later times are written as this one."""
META = "namespace, key, kind, version, parent, checksum, size, modified, expires, tags, device, deleted"
TABLE = "prime_spark.memory_documents"

PUT = f"""
INSERT INTO {TABLE} AS t
    (namespace, key, key_id, kind, version, parent, checksum, body, body_text, size, modified, expires, tags, device, deleted)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (namespace, key) DO UPDATE SET
    kind = excluded.kind, version = excluded.version, parent = excluded.parent, checksum = excluded.checksum,
    body = excluded.body, body_text = excluded.body_text, size = excluded.size, modified = excluded.modified,
    expires = excluded.expires, tags = excluded.tags, device = excluded.device, deleted = excluded.deleted
WHERE t.version = ANY($16::text[]) OR t.version = excluded.version
    OR (t.checksum = excluded.checksum AND t.version < excluded.version AND (t.deleted OR
        (t.expires IS NOT DISTINCT FROM excluded.expires AND t.tags <@ excluded.tags AND excluded.tags <@ t.tags)))
RETURNING version
"""  # noqa: S608 constants
"""Compare and swap in one statement: a row comes back where ours is there now. Of two that say the same the later one stays."""
GET = f"SELECT {META}, body_text FROM {TABLE} WHERE namespace = $1 AND key = $2"  # noqa: S608
READ_ID = f"SELECT {META}, body_text FROM {TABLE} WHERE key_id = $1"  # noqa: S608
PURGE = f"DELETE FROM {TABLE} WHERE namespace = $1 AND key = $2 AND version = $3"  # noqa: S608
HEADS = f"""
SELECT key_id, version, parent, checksum, size, modified, deleted FROM {TABLE}
WHERE key_id > $1 ORDER BY key_id LIMIT $2
"""  # noqa: S608
USAGE = f"SELECT count(*) FILTER (WHERE NOT deleted) AS entries, coalesce(sum(size), 0) AS size FROM {TABLE}"  # noqa: S608
LIVE = "NOT deleted AND (expires IS NULL OR expires > now())"
SEARCH = f"""
SELECT {META}, rank, CASE WHEN $1 = '' THEN left(coalesce(body::text, body_text), 200)
    ELSE ts_headline('simple', left(coalesce(body::text, body_text), 20000), websearch_to_tsquery('simple', $1),
                     'StartSel=[, StopSel=], MinWords=5, MaxWords=20') END AS snippet
FROM (
    SELECT *, CASE WHEN $1 = '' THEN 0 ELSE ts_rank(search, websearch_to_tsquery('simple', $1)) END AS rank FROM {TABLE}
    WHERE {LIVE} AND ($1 = '' OR search @@ websearch_to_tsquery('simple', $1))
        AND ($2::text[] = '{{}}' OR tags @> $2) AND ($3 = '' OR namespace = $3)
    ORDER BY rank DESC, modified DESC, key_id LIMIT $4
) AS found ORDER BY rank DESC, modified DESC, key_id
"""  # noqa: S608
FIND = f"""
SELECT {META}, 0 AS rank, left(coalesce(body::text, body_text), 200) AS snippet FROM {TABLE}
WHERE {LIVE} AND body @> $1::text::jsonb AND ($2 = '' OR namespace = $2) ORDER BY modified DESC, key_id LIMIT $3
"""  # noqa: S608


class Found(msgspec.Struct, frozen=True):
    """One document that a search found."""

    meta: Meta
    snippet: str
    """A part of the JSON text; the words that were found stand in brackets."""
    rank: float
    """Greater is better; 0 where no words were searched."""


def to_time(seconds: float) -> datetime:
    """To the microsecond."""
    return EPOCH + round(min(seconds, LATEST) * 1_000_000) * MICROSECOND


def to_seconds(time: datetime) -> float:
    """To the microsecond."""
    return ((time - EPOCH) // MICROSECOND) / 1_000_000


def arguments(record: Record, known: tuple[str, ...], parse: bool) -> tuple[Any, ...]:
    """What PUT takes.

    Args:
        record: To write.
        known: Versions that it replaces.
        parse: Whether the body goes into the column for queries too.

    Raises:
        InvalidArgumentsError: The value is no UTF-8 text.
    """
    meta = record.meta
    try:
        text = record.value.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentsError(f"{meta.namespace}:{meta.key} is no JSON text: {error}.", "store it as bytes.") from error
    return (
        meta.namespace,
        meta.key,
        key_id(meta.namespace, meta.key),
        meta.kind.value,
        meta.version,
        meta.parent,
        meta.checksum,
        text if parse and not meta.deleted else None,
        text,
        meta.size,
        to_time(meta.modified),
        None if meta.expires is None else to_time(meta.expires),
        list(meta.tags),
        meta.device,
        meta.deleted,
        list(known),
    )


def meta_of(row: Mapping[str, Any]) -> Meta:
    """The row without its value."""
    return Meta(
        namespace=row["namespace"],
        key=row["key"],
        kind=Kind(row["kind"]),
        version=row["version"],
        parent=row["parent"],
        checksum=row["checksum"],
        size=row["size"],
        modified=to_seconds(row["modified"]),
        expires=None if row["expires"] is None else to_seconds(row["expires"]),
        tags=tuple(row["tags"]),
        device=row["device"],
        deleted=row["deleted"],
    )


def record_of(row: Mapping[str, Any]) -> Record:
    """The row with its value."""
    return Record(meta_of(row), row["body_text"].encode())


def head_of(row: Mapping[str, Any]) -> Head:
    """What HEADS tells."""
    return Head(
        key_id=row["key_id"],
        version=row["version"],
        parent=row["parent"],
        checksum=row["checksum"],
        size=row["size"],
        modified=to_seconds(row["modified"]),
        deleted=row["deleted"],
    )


def found_of(row: Mapping[str, Any]) -> Found:
    """What SEARCH and FIND tell."""
    return Found(meta_of(row), row["snippet"], float(row["rank"]))
