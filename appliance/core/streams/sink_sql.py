"""The statements of the sink. Names of tables come from core.analytics.rows, never from outside."""

from __future__ import annotations

from appliance.core.analytics.rows import METRICS, Table

ADVANCE = """
UPDATE stream_offsets AS o SET next_offset = n.next_offset, updated_at = now()
FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[]) AS n (topic, partition, believed, next_offset)
WHERE o.consumer_group = $1 AND o.topic = n.topic AND o.partition = n.partition AND o.next_offset = n.believed
"""
"""The fence: it locks the rows, and changes only those that are where the writer believes them to be."""
READ = "SELECT topic, partition, next_offset FROM stream_offsets WHERE consumer_group = $1"
BEGIN = "INSERT INTO stream_offsets VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
MOVE = """
UPDATE stream_offsets SET next_offset = $5, updated_at = now()
WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
"""
LETTERS = """
INSERT INTO dead_letters (letter_id, consumer_group, topic, partition, record_offset, key, reason, size, body)
SELECT l.id, $1, l.topic, l.partition, l.at, l.key, l.reason, l.size, l.body
FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::bigint[], $6::bytea[], $7::text[], $8::integer[], $9::bytea[])
     AS l (id, topic, partition, at, key, reason, size, body)
ON CONFLICT (consumer_group, topic, partition, record_offset) DO UPDATE SET
    letter_id = excluded.letter_id, time = excluded.time, key = excluded.key, reason = excluded.reason,
    size = excluded.size, body = excluded.body
"""
"""The place may be taken by a letter of a topic that was removed and made anew."""
_GROWS = """
ON CONFLICT (bucket, device_id, metric_name) DO UPDATE SET
    avg_value = t.avg_value + (excluded.avg_value - t.avg_value) * excluded.count / (t.count + excluded.count),
    min_value = least(t.min_value, excluded.min_value),
    max_value = greatest(t.max_value, excluded.max_value),
    count = t.count + excluded.count
"""


ROLLUP = f"""
WITH n AS (
    SELECT * FROM unnest($1::float8[], $2::text[], $3::text[], $4::float8[], $5::float8[], $6::float8[], $7::float8[])
    AS x (b, d, m, s, low, high, c)
), daily AS (
    INSERT INTO device_metrics_daily AS t
    SELECT date_trunc('day', to_timestamp(b), 'UTC') AS day, d, m, sum(s) / sum(c), min(low), max(high), sum(c)::bigint
    FROM n GROUP BY day, d, m ORDER BY day, d, m
    {_GROWS}
)
INSERT INTO device_metrics_hourly AS t
SELECT to_timestamp(b), d, m, s / c, low, high, c::bigint FROM n ORDER BY b, d, m
{_GROWS}"""  # noqa: S608
"""Adds sums by hour to both roll-ups; hours first, as `unstage` does (PostgreSQL carries out the main statement before a WITH
that it does not read), and in the order of their keys, so that two writers do not block each other."""


def staging(table: Table) -> str:
    """A table of this connection's own for rows of which some may be there already."""
    return f"CREATE TEMPORARY TABLE IF NOT EXISTS staging_{table.name} (LIKE {table.name}) ON COMMIT DELETE ROWS"


def unstage(table: Table, *, rollups: bool) -> str:
    """Take over what is new of the staging table; how many rows that was.

    Not avg(): PostgreSQL's adds up squares on the way, and raises 22003 for thousands of numbers that are great but allowed.
    """
    columns = ", ".join(table.columns)
    take = f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM staging_{table.name} ON CONFLICT DO NOTHING"  # noqa: S608
    if not (rollups and table is METRICS):
        return f"WITH fresh AS ({take} RETURNING 1) SELECT count(*) FROM fresh"  # noqa: S608
    parts = [f"fresh AS ({take} RETURNING time, device_id, metric_name, value)"]
    for period, unit in (("hourly", "hour"), ("daily", "day")):
        parts.append(f"""{period} AS (
INSERT INTO device_metrics_{period} AS t
SELECT date_trunc('{unit}', time, 'UTC'), device_id, metric_name, sum(value) / count(*), min(value), max(value), count(*)
FROM fresh GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
{_GROWS})""")  # noqa: S608
    return f"WITH {', '.join(parts)} SELECT count(*) FROM fresh"  # noqa: S608
