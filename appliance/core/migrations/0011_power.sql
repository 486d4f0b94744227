-- Power plans as the operators wrote them; the newest counts.
CREATE TABLE power_plans (
    version  INTEGER PRIMARY KEY,
    time     REAL NOT NULL,
    author   TEXT NOT NULL,
    document TEXT NOT NULL
);
-- The plan's run, so that a start after a crash knows where it stood; and the setting that an operator chose.
CREATE TABLE power_state (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
-- What happened to the power: phases, settings, stages.
CREATE TABLE power_events (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    body TEXT NOT NULL
);
-- Seconds that stages took.
CREATE TABLE power_measured (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    stage   TEXT NOT NULL,
    seconds REAL NOT NULL
);
