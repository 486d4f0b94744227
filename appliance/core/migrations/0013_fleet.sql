-- Operations on the fleet: what was planned, done, and taken back.
CREATE TABLE fleet_operations (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL UNIQUE,
    ended        INTEGER NOT NULL,
    body         TEXT NOT NULL
);
-- One node of an operation: how it was found, how it was left, and how to take it back.
CREATE TABLE fleet_runs (
    operation_id TEXT NOT NULL,
    node         TEXT NOT NULL,
    state        TEXT NOT NULL,
    body         TEXT NOT NULL,
    PRIMARY KEY (operation_id, node)
) WITHOUT ROWID;
-- What a node said: its head, the bytes that were dropped, its tail.
CREATE TABLE fleet_outputs (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL,
    node         TEXT NOT NULL,
    size         INTEGER NOT NULL,
    dropped      INTEGER NOT NULL,
    head         BLOB NOT NULL,
    tail         BLOB NOT NULL,
    UNIQUE (operation_id, node)
);
