-- Sessions of the REST API: one for each login. Its tokens are signed, not stored; `generation` counts their renewals.
CREATE TABLE access_sessions (
    session_id TEXT PRIMARY KEY,
    user       TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created    REAL NOT NULL,
    used       REAL NOT NULL,
    expires    REAL NOT NULL,
    generation INTEGER NOT NULL,
    origin     TEXT NOT NULL,
    agent      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX access_sessions_user ON access_sessions (user);
-- Tokens for programs: their SHA-256 alone.
CREATE TABLE access_tokens (
    token_id TEXT PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    user     TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    role     TEXT NOT NULL,
    scopes   TEXT NOT NULL,
    digest   BLOB NOT NULL,
    created  REAL NOT NULL,
    expires  REAL,
    used     REAL
) WITHOUT ROWID;
-- Second factors (RFC 6238), sealed; `step` is the last one that was used, `spent` counts recovery codes.
CREATE TABLE access_totp (
    user      TEXT PRIMARY KEY REFERENCES users (name) ON DELETE CASCADE,
    secret    BLOB NOT NULL,
    confirmed INTEGER NOT NULL,
    step      INTEGER NOT NULL,
    recovery  TEXT NOT NULL
) WITHOUT ROWID;
-- Answers to requests that had an Idempotency-Key, sealed; NULL while the request is under way.
CREATE TABLE access_answers (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    identity    TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    boot        TEXT NOT NULL,
    created     REAL NOT NULL,
    status      INTEGER,
    body        BLOB,
    UNIQUE (identity, key)
);
