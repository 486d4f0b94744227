-- Which version of theirs a conflict is about, so that it is not fetched again to be compared.
ALTER TABLE conflicts ADD COLUMN version TEXT NOT NULL DEFAULT '';
