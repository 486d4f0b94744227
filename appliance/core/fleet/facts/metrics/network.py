"""Bytes through each card since it was made (proc(5), /proc/net/dev)."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, Told

PATH = "/proc/net/dev"
MADE_UP = (
    "lo", "veth", "docker", "br-", "virbr", "podman", "cni", "flannel", "cali", "wg", "tun", "tap", "dummy", "ifb", "sit",
)  # fmt: skip
"""How names of interfaces begin that carry what another one carries too, or nothing."""


def parse(told: Told) -> dict[str, Any]:
    """Of the real cards; where none is (in a container), of all that are not made up."""
    counts: dict[str, tuple[int, int]] = {}
    for line in told.files[PATH]:
        name, colon, rest = line.rpartition(":")
        numbers = rest.split()
        if colon and len(numbers) >= 9:
            counts[name.strip()] = (int(numbers[0]), int(numbers[8]))
    if not counts:
        raise ValueError(PATH)
    real = {path.split("/")[4] for path in told.text.split() if path.startswith("/sys/class/net/")}
    own = {name: count for name, count in counts.items() if name in real}
    return {"cards": own or {name: count for name, count in counts.items() if not name.startswith(MADE_UP)}}


FACT = Fact("network", parse, files=(PATH,), script='set -- /sys/class/net/*/device; [ -e "$1" ] && printf "%s\\n" "$*"')
