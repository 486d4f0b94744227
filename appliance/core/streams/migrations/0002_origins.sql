-- Dead letters are bounded by origin.
CREATE INDEX letters_by_origin ON letters (origin, number);
