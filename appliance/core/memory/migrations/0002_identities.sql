-- Which store stood behind a tier when it was opened last: another one holds nothing of ours.
CREATE TABLE identities (
    tier     TEXT PRIMARY KEY,
    identity TEXT NOT NULL
);
