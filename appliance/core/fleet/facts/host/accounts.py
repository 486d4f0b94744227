"""People's accounts (passwd(5))."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

PATH = "/etc/passwd"
FIRST, NOBODY = 1000, 65534
MOST = 500


def parse(told: Told) -> dict[str, Any]:
    """Root, and those with a number that people's accounts have."""
    rows = [line.split(":") for line in told.files.get(PATH, [])]
    people = [row[0] for row in rows if len(row) >= 7 and row[2].isdigit() and _is_person(int(row[2]))]
    if not people:
        raise NotToldError("its /etc/passwd names nobody")
    return {"users": tuple(people[:MOST])}


def _is_person(uid: int) -> bool:
    return uid == 0 or (uid >= FIRST and uid != NOBODY)


FACT = Fact("users", parse, files=(PATH,))
