-- Events of the journal that could not be read or stored, set aside so that the others go on.
CREATE TABLE outbox_unreadable (
    seq      INTEGER PRIMARY KEY,
    id       TEXT NOT NULL,
    type     TEXT NOT NULL,
    envelope BLOB NOT NULL,
    reason   TEXT NOT NULL
);
