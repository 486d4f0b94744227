"""WireGuard's interfaces. Keys do not leave the node: its own shell cuts them off."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told


def parse(told: Told) -> dict[str, Any]:
    """Interface → peers, newest handshake (seconds ago), bytes; empty where it has none."""
    interfaces: dict[str, dict[str, Any]] = {}
    now = 0
    for line in told.lines():
        name, *rest = line.split("\t")
        if name == "now":
            now = int(rest[0])
        elif len(rest) == 1:
            port = int(rest[0]) if rest[0].isdigit() else None
            interfaces[name] = {"peers": 0, "listen_port": port, "latest_handshake": None, "rx_bytes": 0, "tx_bytes": 0}
        elif len(rest) == 5 and name in interfaces:
            _count(interfaces[name], rest, now)
        else:
            raise NotToldError(line[:120])
    return {"wireguard": interfaces}


def _count(interface: dict[str, Any], peer: list[str], now: int) -> None:
    interface["peers"] += 1
    interface["rx_bytes"] += int(peer[3])
    interface["tx_bytes"] += int(peer[4])
    shaken = int(peer[2])
    if shaken:
        age = max(0, now - shaken)
        newest = interface["latest_handshake"]
        interface["latest_handshake"] = age if newest is None else min(newest, age)


FACT = Fact(
    "wireguard", parse,
    script=(
        "there=; for each in /sys/class/net/*/uevent; do while read -r line; do [ \"$line\" = DEVTYPE=wireguard ] && there=1; "
        "done <\"$each\"; done\nfor each in /var/run/wireguard/*.sock; do [ -e \"$each\" ] && there=1; done\n"
        'if [ -z "$there" ]; then :\n'
        'elif ! command -v wg >/dev/null; then echo "!it has no wg"\n'
        'elif [ "$(id -u)" != 0 ]; then echo "!wg needs root there"\n'
        "else printf 'now\\t%s\\n' \"$(date +%s)\"; tab=$(printf '\\t')\n"
        'wg show all dump 2>&1 | while IFS="$tab" read -r name a b c d e f g h; do\n'
        'if [ -n "$h" ]; then printf \'%s\\t%s\\t%s\\t%s\\t%s\\t%s\\n\' "$name" "$c" "$d" "$e" "$f" "$g"\n'
        'elif [ -n "$d" ]; then printf \'%s\\t%s\\n\' "$name" "$c"; else printf \'%s\\n\' "$name"; fi; done; fi'
    ),
)  # fmt: skip
