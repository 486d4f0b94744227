-- What of the voice left the house.
CREATE TABLE voice_ledger (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    service TEXT NOT NULL,
    host TEXT NOT NULL,
    kind TEXT NOT NULL,
    utterance_id TEXT NOT NULL,
    audio_bytes INTEGER NOT NULL,
    text_bytes INTEGER NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX voice_ledger_time ON voice_ledger (time);
