-- Messages of alerts to channels: those that wait are tried again after a restart, the others are the record.
CREATE TABLE alert_deliveries (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id TEXT NOT NULL UNIQUE,
    channel     TEXT NOT NULL,
    state       TEXT NOT NULL,
    created     REAL NOT NULL,
    record      BLOB NOT NULL,
    notice      BLOB
);
CREATE INDEX alert_deliveries_state ON alert_deliveries (state, seq);
-- What each channel was told of each group; what is so is compared with it.
CREATE TABLE alert_told (
    channel   TEXT NOT NULL,
    group_key TEXT NOT NULL,
    route     TEXT NOT NULL,
    time      REAL NOT NULL,
    labels    BLOB NOT NULL,
    notes     BLOB NOT NULL,
    PRIMARY KEY (channel, group_key)
) WITHOUT ROWID;
-- What became of messages, in all, by channel.
CREATE TABLE alert_channel_counts (
    channel TEXT NOT NULL,
    what    TEXT NOT NULL,
    value   INTEGER NOT NULL,
    PRIMARY KEY (channel, what)
) WITHOUT ROWID;
