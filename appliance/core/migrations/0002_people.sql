-- What a login with this key may do at most; NULL: whatever its user may.
ALTER TABLE user_keys ADD COLUMN role TEXT;
