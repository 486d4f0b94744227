"""Version of Python; nothing here needs it."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told


def parse(told: Told) -> dict[str, Any]:
    """As it says itself."""
    name, version = told.line().split()[:2]
    if name != "Python":
        raise NotToldError(f"python3 said {told.line()[:80]!r}")
    return {"python": version}


FACT = Fact("python", parse, script='command -v python3 >/dev/null && python3 --version 2>&1 || echo "!it has no python3"')
