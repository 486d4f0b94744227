-- One row per key: its newest version, and whether the local disk holds the value.
CREATE TABLE entries (
    entry     INTEGER PRIMARY KEY,
    key_id    TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    key       TEXT NOT NULL,
    kind      TEXT NOT NULL,
    version   TEXT NOT NULL,
    checksum  TEXT NOT NULL,
    size      INTEGER NOT NULL,
    modified  REAL NOT NULL,
    expires   REAL,
    tags      TEXT NOT NULL,
    device    TEXT NOT NULL,
    deleted   INTEGER NOT NULL,
    place     TEXT NOT NULL CHECK (place IN ('', 'row', 'file')),
    stored    INTEGER NOT NULL,
    pinned    INTEGER NOT NULL DEFAULT 0,
    hits      INTEGER NOT NULL DEFAULT 0,
    used      REAL NOT NULL DEFAULT 0,
    UNIQUE (namespace, key)
);
CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
CREATE INDEX entries_by_use ON entries (used) WHERE stored > 0 AND pinned = 0;
-- Values that are small enough to lie in the database; larger ones are files.
CREATE TABLE bodies (
    entry INTEGER PRIMARY KEY REFERENCES entries (entry) ON DELETE CASCADE,
    body  BLOB NOT NULL
);
-- The version that a lower tier and this disk had in common last.
CREATE TABLE copies (
    tier    TEXT NOT NULL,
    entry   INTEGER NOT NULL REFERENCES entries (entry) ON DELETE CASCADE,
    version TEXT NOT NULL,
    PRIMARY KEY (tier, entry)
) WITHOUT ROWID;
-- What waits to be delivered to a lower tier: the entry's newest version.
CREATE TABLE owed (
    tier     TEXT NOT NULL,
    entry    INTEGER NOT NULL REFERENCES entries (entry) ON DELETE CASCADE,
    since    REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tier, entry)
) WITHOUT ROWID;
-- Versions that are gone here and still lie in a lower tier.
CREATE TABLE purges (
    tier      TEXT NOT NULL,
    namespace TEXT NOT NULL,
    key       TEXT NOT NULL,
    version   TEXT NOT NULL,
    PRIMARY KEY (tier, namespace, key, version)
) WITHOUT ROWID;
-- The last common version's record, for three-way merges; kept while the entry differs from it.
CREATE TABLE bases (
    entry   INTEGER PRIMARY KEY REFERENCES entries (entry) ON DELETE CASCADE,
    version TEXT NOT NULL,
    body    BLOB NOT NULL
);
CREATE TABLE conflicts (
    conflict_id TEXT PRIMARY KEY,
    entry       INTEGER NOT NULL REFERENCES entries (entry) ON DELETE CASCADE,
    tier        TEXT NOT NULL,
    detected    REAL NOT NULL,
    theirs      BLOB NOT NULL,
    reason      TEXT NOT NULL,
    UNIQUE (entry, tier)
);
-- Size accounting, kept by the triggers below.
CREATE TABLE totals (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
INSERT INTO totals VALUES ('entries', 0), ('stored', 0), ('evictions', 0);
CREATE TRIGGER entries_added AFTER INSERT ON entries BEGIN
    UPDATE totals SET value = value + (NEW.stored > 0) WHERE name = 'entries';
    UPDATE totals SET value = value + NEW.stored WHERE name = 'stored';
END;
CREATE TRIGGER entries_changed AFTER UPDATE OF stored ON entries WHEN NEW.stored <> OLD.stored BEGIN
    UPDATE totals SET value = value + (NEW.stored > 0) - (OLD.stored > 0) WHERE name = 'entries';
    UPDATE totals SET value = value + NEW.stored - OLD.stored WHERE name = 'stored';
END;
CREATE TRIGGER entries_removed AFTER DELETE ON entries BEGIN
    UPDATE totals SET value = value - (OLD.stored > 0) WHERE name = 'entries';
    UPDATE totals SET value = value - OLD.stored WHERE name = 'stored';
END;
