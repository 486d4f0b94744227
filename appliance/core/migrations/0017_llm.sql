-- What was sent to language models outside the house: to whom, how much, why.
CREATE TABLE llm_ledger (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    time       REAL NOT NULL,
    tick       REAL NOT NULL,
    who        TEXT NOT NULL,
    endpoint   TEXT NOT NULL,
    place      TEXT NOT NULL,
    model      TEXT NOT NULL,
    operation  TEXT NOT NULL,
    why        TEXT NOT NULL,
    bytes      INTEGER NOT NULL,
    tokens_in  INTEGER,
    tokens_out INTEGER,
    cost       REAL,
    outcome    TEXT NOT NULL,
    counted    INTEGER NOT NULL,
    charged    REAL NOT NULL
);
CREATE INDEX llm_ledger_tick ON llm_ledger (tick);
-- The ledger's own clock: it never goes back, and inside one boot it goes as the monotonic clock does.
CREATE TABLE llm_clock (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    tick      REAL NOT NULL,
    boot      TEXT NOT NULL,
    monotonic REAL NOT NULL,
    wall      REAL NOT NULL
);
-- Endpoints that an operator drains or has halted.
CREATE TABLE llm_switches (
    endpoint TEXT PRIMARY KEY,
    switch   TEXT NOT NULL,
    who      TEXT NOT NULL,
    time     REAL NOT NULL
);
