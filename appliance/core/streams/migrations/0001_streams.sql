-- What waits for Kafka and is in no journal: blocks of messages, by class and by the number of their first message in it.
CREATE TABLE blocks (
    priority INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    since    REAL NOT NULL,
    until    REAL NOT NULL,
    size     INTEGER NOT NULL,
    digest   BLOB NOT NULL,
    body     BLOB NOT NULL
);
CREATE UNIQUE INDEX blocks_by_number ON blocks (priority, first, last, messages, since, until, size);
-- Damaged blocks, for whoever wants to look at them; the newest.
CREATE TABLE quarantine (
    time     REAL NOT NULL,
    priority INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    body     BLOB NOT NULL
);
CREATE TABLE counts (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
);
-- Dead letters. retry: 0, or the order in which they are to be sent again.
CREATE TABLE letters (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    letter_id  TEXT NOT NULL UNIQUE,
    time       REAL NOT NULL,
    origin     TEXT NOT NULL,
    topic      TEXT NOT NULL,
    key        BLOB NOT NULL,
    reason     TEXT NOT NULL,
    size       INTEGER NOT NULL,
    part       INTEGER,
    place      INTEGER,
    message_id TEXT NOT NULL,
    event_time REAL NOT NULL,
    priority   INTEGER NOT NULL,
    retry      INTEGER NOT NULL DEFAULT 0,
    value      BLOB NOT NULL
);
CREATE INDEX letters_by_retry ON letters (priority, retry) WHERE retry > 0;
-- Events of the journal that are sent again, one row for each class.
CREATE TABLE replays (
    number   INTEGER PRIMARY KEY,
    priority INTEGER NOT NULL,
    since    REAL NOT NULL,
    until    REAL NOT NULL,
    types    TEXT NOT NULL,
    place    INTEGER NOT NULL,
    upto     INTEGER NOT NULL,
    waiting  INTEGER NOT NULL
);
