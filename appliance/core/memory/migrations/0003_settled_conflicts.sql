-- A tier and this disk have a version in common, or the tier shall get ours: no conflict with it waits any more.
CREATE TRIGGER copies_settle AFTER INSERT ON copies BEGIN
    DELETE FROM conflicts WHERE tier = NEW.tier AND entry = NEW.entry;
END;
