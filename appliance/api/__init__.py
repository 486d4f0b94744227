"""REST, generated from the registry of actions; served on a UNIX socket that only this user can open."""
