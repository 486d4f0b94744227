"""REST, generated from the registry of actions; served on a UNIX socket that only this user can open."""

from appliance.core.lean import without_front

without_front("uvicorn")  # its command line and its supervisors, which nobody here needs
