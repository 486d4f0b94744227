"""Pictures in, labelled boxes out; no result that no model made."""
