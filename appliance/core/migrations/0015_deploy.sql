-- Services that are deployed: what is wanted of each.
CREATE TABLE deploy_services (
    name     TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    replicas INTEGER NOT NULL,
    removing INTEGER NOT NULL DEFAULT 0,
    changed  REAL NOT NULL
);
-- Their specifications, every version.
CREATE TABLE deploy_revisions (
    service  TEXT NOT NULL,
    revision INTEGER NOT NULL,
    label    TEXT NOT NULL,
    time     REAL NOT NULL,
    author   TEXT NOT NULL,
    document TEXT NOT NULL,
    outcome  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (service, revision)
);
-- Instances: written before anything is done on a node, so that a start after a crash knows what may be there.
CREATE TABLE deploy_replicas (
    replica_id TEXT PRIMARY KEY,
    service    TEXT NOT NULL,
    body       TEXT NOT NULL
);
-- Rollouts: written before each step.
CREATE TABLE deploy_rollouts (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout_id TEXT NOT NULL UNIQUE,
    service    TEXT NOT NULL,
    ended      REAL,
    body       TEXT NOT NULL
);
CREATE INDEX deploy_rollouts_service ON deploy_rollouts (service, seq);
-- What happened.
CREATE TABLE deploy_events (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    time     REAL NOT NULL,
    service  TEXT NOT NULL,
    kind     TEXT NOT NULL,
    text     TEXT NOT NULL,
    severity TEXT NOT NULL
);
CREATE INDEX deploy_events_service ON deploy_events (service, seq);
