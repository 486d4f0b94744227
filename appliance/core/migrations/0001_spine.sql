-- Audit log: each row's hash covers the row and the hash before it.
CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    time    REAL NOT NULL,
    actor   TEXT NOT NULL,
    role    TEXT NOT NULL,
    via     TEXT NOT NULL,
    origin  TEXT NOT NULL,
    action  TEXT NOT NULL,
    args    TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail  TEXT NOT NULL,
    hash    TEXT NOT NULL
);
-- One row: what precedes the oldest kept row, and where the chain ends.
CREATE TABLE audit_chain (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    anchor_seq  INTEGER NOT NULL,
    anchor_hash TEXT NOT NULL,
    head_seq    INTEGER NOT NULL,
    head_mac    TEXT NOT NULL
);
-- Durable events, in the order in which they happened.
CREATE TABLE outbox (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL UNIQUE,
    type     TEXT NOT NULL,
    envelope BLOB NOT NULL
);
CREATE TABLE outbox_counts (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
CREATE TABLE users (
    name          TEXT PRIMARY KEY,
    role          TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created       REAL NOT NULL
);
CREATE TABLE user_keys (
    fingerprint TEXT NOT NULL,
    user        TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    public_key  TEXT NOT NULL,
    PRIMARY KEY (user, fingerprint)
);
CREATE TABLE jobs (
    job_id  TEXT PRIMARY KEY,
    state   TEXT NOT NULL,
    created REAL NOT NULL,
    body    BLOB NOT NULL
);
CREATE INDEX jobs_by_time ON jobs (created);
CREATE TABLE alerts (
    alert_id TEXT PRIMARY KEY,
    body     BLOB NOT NULL
);
CREATE TABLE alert_history (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE silences (
    rule  TEXT PRIMARY KEY,
    until REAL NOT NULL,
    by    TEXT NOT NULL
);
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
