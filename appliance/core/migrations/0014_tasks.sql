-- Tasks: what waits, what runs, and what has ended lately. `ended` numbers the ends, so that no clock has a say in what goes.
CREATE TABLE tasks (
    seq     INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE,
    state   TEXT NOT NULL,
    body    BLOB NOT NULL,
    history BLOB NOT NULL,
    payload BLOB NOT NULL,
    result  BLOB,
    boot    TEXT NOT NULL,
    due     REAL,
    ended   INTEGER
);
CREATE INDEX tasks_ended ON tasks (ended) WHERE ended IS NOT NULL;
CREATE INDEX tasks_open ON tasks (seq) WHERE ended IS NULL;
-- Workers as they last told of themselves: what they can do counts also while they are silent.
CREATE TABLE task_workers (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    seen REAL NOT NULL
);
CREATE TABLE task_schedules (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL
);
