"""What NUT's variables mean (docs/nut-names.txt of Network UPS Tools), and a quick look that may block."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from io import BufferedRWPair

from appliance.core.power.model import Supply, UpsReading
from appliance.errors import DeviceError
from appliance.hw.ups.told import Doubts, reading

QUICK = 1.0
"""Seconds to connect, and to be answered, in a quick look."""
ALL = 3.0
"""Seconds for the quick look at all servers: DNS may hang for longer."""
RESTART = "sudo systemctl restart nut-driver-enumerator nut-server; then: upsc -l"
YEAR = 366 * 86400.0


def supply_of(words: frozenset[str]) -> Supply:
    """What feeds the load. OL and OB at once contradict each other; OFF says that this UPS feeds nothing."""
    mains, battery = bool(words & {"OL", "BYPASS"}), "OB" in words
    if mains is battery:
        return Supply.unknown
    return Supply.mains if mains else Supply.battery


def charging_of(words: frozenset[str]) -> bool | None:
    """Whether the battery is being charged; None where the UPS does not say, or says both."""
    feeds, charges = bool(words & {"DISCHRG", "OB"}), "CHRG" in words
    return None if feeds is charges else charges


def told(ups: str, variables: Mapping[str, str]) -> UpsReading:
    """A look, from all variables of a UPS.

    Raises:
        DeviceError: The driver has not told a status yet, or has lost the UPS.
    """
    status = " ".join(variables.get("ups.status", "").split())[:80]
    words = frozenset(status.split())
    if not words or "WAIT" in words:
        step = "wait some seconds; if it stays so, on its server: journalctl -u nut-driver@" + ups
        raise DeviceError(f"{ups}: NUT's driver has not told a status yet.", step)
    if "NOCOMM" in words:
        step = f"check its cable; on its server: sudo systemctl restart nut-driver@{ups}"
        raise DeviceError(f"{ups}: NUT's driver has lost the UPS ({status}).", step)
    doubts = Doubts()
    charging = charging_of(words)
    return reading(
        supply=supply_of(words),
        charging=charging,
        percent=doubts.number("battery.charge", variables.get("battery.charge"), 0, 100),
        voltage=doubts.number("battery.voltage", variables.get("battery.voltage"), 0.1, 1000),
        current=_current(doubts, variables, charging),
        power=_power(doubts, variables),
        runtime=doubts.number("battery.runtime", variables.get("battery.runtime"), 0, YEAR),
        temperature_c=_temperature(doubts, variables),
        low="LB" in words if words & {"OL", "OB", "LB"} else None,
        forced="FSD" in words,
        status=status,
        doubts=tuple(doubts.all),
    )


def _current(doubts: Doubts, variables: Mapping[str, str], charging: bool | None) -> float | None:
    """Drivers do not agree on the sign; the status gives the direction, and without it none is told."""
    found = doubts.number("battery.current", variables.get("battery.current"), -10_000, 10_000)
    return None if found is None or charging is None else abs(found) if charging else -abs(found)


def _power(doubts: Doubts, variables: Mapping[str, str]) -> float | None:
    found = doubts.number("ups.realpower", variables.get("ups.realpower"), 0, 1e6)
    if found is not None:
        return found
    load = doubts.number("ups.load", variables.get("ups.load"), 0, 1000)
    nominal = doubts.number("ups.realpower.nominal", variables.get("ups.realpower.nominal"), 1, 1e6)
    return None if load is None or nominal is None else load * nominal / 100


def _temperature(doubts: Doubts, variables: Mapping[str, str]) -> float | None:
    for name in ("battery.temperature", "ups.temperature"):
        if (found := doubts.number(name, variables.get(name), -50, 150)) is not None:
            return found
    return None


def ask_blocking(host: str, port: int, upses: Sequence[str]) -> tuple[list[str], list[str]]:
    """How the UPSes of a server are: (those that tell, what is wrong). Blocks for two seconds at most where it hangs."""
    told: list[str] = []
    faults: list[str] = []
    try:
        with socket.create_connection((host, port), timeout=QUICK) as link, link.makefile("rwb") as stream:
            for name in upses or _listed(stream):
                answer = _ask(stream, f"GET VAR {name} ups.status")
                if answer.startswith(f"VAR {name} ups.status "):
                    told.append(f"NUT: {name} is {answer.split(' ', 3)[3].strip(chr(34))}")
                else:
                    faults.append(f"NUT says of {name}: {answer or 'nothing'}")
    except TimeoutError:
        faults.append(f"upsd on {host}:{port} does not answer")
    except OSError as error:
        faults.append(f"upsd on {host}:{port}: {os.strerror(error.errno) if error.errno else error}")
    if not told and not faults:
        faults.append(f"upsd on {host}:{port} has no UPS")
    return told, faults


def _ask(stream: BufferedRWPair, request: str) -> str:
    stream.write(f"{request}\n".encode())
    stream.flush()
    return stream.readline(1000).decode(errors="replace").strip()


def _listed(stream: BufferedRWPair) -> list[str]:
    names: list[str] = []
    answer = _ask(stream, "LIST UPS")
    while answer and not answer.startswith(("END ", "ERR ")) and len(names) < 100:
        if answer.startswith("UPS "):
            names.append(answer.split()[1])
        answer = stream.readline(1000).decode(errors="replace").strip()
    return names
