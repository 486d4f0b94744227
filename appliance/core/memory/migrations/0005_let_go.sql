-- Versions that a tier gave up for want of room: it is not given them again when it comes back.
CREATE TABLE let_go (
    tier    TEXT NOT NULL,
    entry   INTEGER NOT NULL REFERENCES entries (entry) ON DELETE CASCADE,
    version TEXT NOT NULL,
    PRIMARY KEY (tier, entry)
) WITHOUT ROWID;
