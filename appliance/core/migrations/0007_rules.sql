-- Rules of the windows, as this appliance's operators set them. A removed one stays until Kafka has heard of it.
CREATE TABLE window_rules (
    id        TEXT PRIMARY KEY,
    document  TEXT,
    changed   REAL NOT NULL,
    revision  INTEGER NOT NULL,
    published INTEGER NOT NULL DEFAULT 0
);
