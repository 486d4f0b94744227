"""TCP ports that something listens on (proc(5), /proc/net/tcp); no root and no ss is needed."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

LISTEN = "0A"


def parse(told: Told) -> dict[str, Any]:
    """Their numbers, also of those on loopback alone."""
    if told.text.strip() == "-":
        raise NotToldError("its list of ports cannot be read")
    ports = set()
    for line in told.lines():
        parts = line.split()
        if len(parts) > 3 and parts[3] == LISTEN:
            ports.add(int(parts[1].rpartition(":")[2], 16))
    return {"listening": tuple(sorted(ports))}


FACT = Fact(
    "listening", parse, script="if [ -r /proc/net/tcp ]; then grep -hs ' 0A ' /proc/net/tcp /proc/net/tcp6; else echo -; fi"
)
