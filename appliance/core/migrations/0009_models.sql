-- Which version of which model serves; what is known of each version; what was offered. The files lie on disk beside it.
CREATE TABLE models (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL
);
CREATE TABLE model_versions (
    key  TEXT PRIMARY KEY,
    body BLOB NOT NULL
);
CREATE TABLE model_offers (
    offer   TEXT PRIMARY KEY,
    changed REAL NOT NULL,
    body    BLOB NOT NULL
);
