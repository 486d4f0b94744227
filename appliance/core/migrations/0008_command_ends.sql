-- Where each command stood in its topic (partition:offset; empty where that is not known), and how far it came: "taken",
-- then how it ended, then "answered". A command that comes again from its own place is no replay, but was not committed.
ALTER TABLE commands_seen ADD COLUMN place TEXT NOT NULL DEFAULT '';
ALTER TABLE commands_seen ADD COLUMN state TEXT NOT NULL DEFAULT 'answered';
-- The latest end among the ids that were forgotten: what ended by then is refused, whatever the clock says.
CREATE TABLE commands_forgotten (one INTEGER PRIMARY KEY CHECK (one = 1), expires REAL NOT NULL);
