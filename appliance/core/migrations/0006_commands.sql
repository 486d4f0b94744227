-- Signed commands that were taken, so that none is carried out twice: until when (seconds since the epoch) each could be.
CREATE TABLE commands_seen (id TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX commands_seen_by_end ON commands_seen (expires);
