-- Sources of frames, as the operators set them; their passwords lie with the secrets.
CREATE TABLE sources (
    name     TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    changed  REAL NOT NULL
);
-- Snapshots and clips that were kept in the memory, so that the oldest can make room.
CREATE TABLE source_media (
    key    TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    kept   REAL NOT NULL,
    size   INTEGER NOT NULL
);
CREATE INDEX source_media_kept ON source_media (kept);
