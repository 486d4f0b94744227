"""TCP ports that something listens on. The kernel's own list (proc(5), /proc/net/tcp) needs neither root nor ss; where ss is
there it is asked, because reading that list goes through every connection that there is.
"""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told

LISTEN = "0A"


def parse(told: Told) -> dict[str, Any]:
    """Their numbers, also of those on loopback alone."""
    if told.text.strip() == "-":
        raise NotToldError("its list of ports cannot be read")
    ports = {port for line in told.lines() if (port := _port(line.split())) is not None}
    return {"listening": tuple(sorted(ports))}


def _port(parts: list[str]) -> int | None:
    if len(parts) > 3 and parts[0] == "LISTEN":
        return int(parts[3].rpartition(":")[2])
    if len(parts) > 3 and parts[3] == LISTEN:
        return int(parts[1].rpartition(":")[2], 16)
    return None


FACT = Fact(
    "listening", parse,
    script=(
        "if command -v ss >/dev/null && ss -Hltn; then :\n"
        "elif [ -r /proc/net/tcp ]; then grep -hs ' 0A ' /proc/net/tcp /proc/net/tcp6; else echo -; fi"
    ),
)  # fmt: skip
