-- What of the voice left the house.
CREATE TABLE voice_ledger (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    day INTEGER NOT NULL,
    service TEXT NOT NULL,
    host TEXT NOT NULL,
    kind TEXT NOT NULL,
    utterance_id TEXT NOT NULL,
    audio_bytes INTEGER NOT NULL,
    text_bytes INTEGER NOT NULL,
    outcome TEXT NOT NULL
);
-- What each day (UTC) comes to; day -1 is all days together. Changed with the rows, in their transaction.
CREATE TABLE voice_ledger_days (
    day INTEGER PRIMARY KEY,
    audio_bytes INTEGER NOT NULL,
    text_bytes INTEGER NOT NULL,
    requests INTEGER NOT NULL
);
-- The ledger's own clock: it never goes back, and inside one boot it goes as the monotonic clock does.
CREATE TABLE voice_ledger_clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    tick REAL NOT NULL,
    boot TEXT NOT NULL,
    monotonic REAL NOT NULL,
    wall REAL NOT NULL
);
