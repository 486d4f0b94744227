"""Addresses of each interface."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

MOST = 200


def parse(told: Told) -> dict[str, Any]:
    """With their prefix lengths, those that are valid beyond the link first."""
    found: dict[str, list[str]] = {}
    for line in told.lines():
        parts = line.split()
        if len(parts) > 3 and parts[2] in {"inet", "inet6"} and "/" in parts[3] + "/":
            found.setdefault(parts[1].partition("@")[0], []).append(parts[3])
    if not found:
        raise NotToldError(f"ip said {told.line()[:80]!r}")
    some = sorted(found.items())[:MOST]
    return {"addresses": {name: tuple(sorted(each, key=lambda text: text.startswith("fe80:"))) for name, each in some}}


FACT = Fact("addresses", parse, script='command -v ip >/dev/null && ip -o addr || echo "!it has no ip"')
