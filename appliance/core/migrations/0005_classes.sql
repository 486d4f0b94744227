-- What sending by class and bounds by bytes and age need of each event: its class (core.streams.model.Priority, 0 first), its
-- time, since when it waits (both seconds since the epoch), and its bytes.
ALTER TABLE outbox ADD COLUMN priority INTEGER NOT NULL DEFAULT 2;
ALTER TABLE outbox ADD COLUMN time REAL NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN since REAL NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET
    priority = CASE type WHEN 'health.changed' THEN 0 WHEN 'event.noted' THEN 1 WHEN 'host.metrics' THEN 3 ELSE 2 END,
    size = length(envelope),
    time = CASE WHEN json_valid(CAST(envelope AS TEXT))
        THEN coalesce((julianday(json_extract(CAST(envelope AS TEXT), '$.timestamp')) - 2440587.5) * 86400.0, 0) ELSE 0 END;
UPDATE outbox SET since = time;
CREATE INDEX outbox_by_class ON outbox (priority, seq, size, since);
