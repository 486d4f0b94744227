"""PiSugar 2 and 3, through PiSugar's own server.

Its protocol (README of PiSugar's pisugar-power-manager-rs): lines over TCP 8423 or /tmp/pisugar-server.sock, "get battery"
→ "battery: 83.2"; an answer without a number says what went wrong; presses of its button come in between as lines of
their own. A command that a version of the server does not know is answered without its name: so all are sent at once, and
"get model", which every version knows, closes them.

The PiSugar 2 with 4 LEDs cannot see its charger: its server guesses by whether the voltage rises, so that "not plugged"
means nothing there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence

import msgspec

from appliance.core.model import Device, Health
from appliance.core.power.model import Supply, Ups, UpsReading
from appliance.errors import DeviceError
from appliance.hw.ups.line import LONGEST, LineLink, Streams, Tcp
from appliance.hw.ups.told import Doubts, reading

ASKED = ("battery", "battery_v", "battery_i", "battery_power_plugged", "battery_charging", "temperature")
LAST = "model"
MOST = 100
"""Lines that come in between at most; a command that it does not know is answered with some lines of help."""
ANSWER = re.compile(r"(\w+): ?(.*)")
STEP = "sudo systemctl restart pisugar-server; then: echo get battery | nc -q 1 127.0.0.1 8423"


class PiSugarServer(msgspec.Struct, frozen=True):
    """Where PiSugar's server is."""

    host: str = "127.0.0.1"
    port: int = 8423
    socket: str = "/tmp/pisugar-server.sock"  # noqa: S108 - there its package puts it; asked first
    configured: bool = False
    """Whether the operator says that there is one: then it is missed where it does not answer."""


def told(answers: Mapping[str, str]) -> UpsReading:
    """What its answers mean.

    Raises:
        DeviceError: It does not reach its board, or the battery has no voltage.
    """
    doubts = Doubts()
    volts = doubts.number("battery_v", answers.get("battery_v"), 0.0, 20.0)
    percent = doubts.number("battery", answers.get("battery"), 0.0, 100.0)
    if (volts is None and percent is None) or volts == 0:
        said = answers.get("battery_v") or answers.get("battery") or "nothing"
        raise DeviceError(f"PiSugar's server has no value of its board: {said[:80]}.", STEP)
    model = answers.get(LAST, "")[:40]
    plugged, charges = (_yes(answers.get(name)) for name in ("battery_power_plugged", "battery_charging"))
    supply = Supply.mains if plugged or charges else Supply.unknown
    if plugged is False and not charges and "4-LEDs" not in model:
        supply = Supply.battery
    current = _current(doubts.number("battery_i", answers.get("battery_i"), -20.0, 20.0), supply, charges, model)
    return reading(
        supply=supply,
        charging=False if supply is Supply.battery else charges,
        percent=percent,
        voltage=volts,
        current=current,
        power=volts * -current if volts and current and current < 0 else None,
        temperature_c=doubts.number("temperature", answers.get("temperature"), -50.0, 150.0),
        status=model,
        doubts=tuple(doubts.all),
    )


def _yes(text: str | None) -> bool | None:
    return {"true": True, "false": False}.get(text or "")


def _current(amperes: float | None, supply: Supply, charges: bool | None, model: str) -> float | None:
    """The PiSugar 3 tells what it puts out, which comes from the battery only while nothing is plugged in."""
    if amperes is None or supply is Supply.unknown:
        return None
    if supply is Supply.battery:
        return -abs(amperes)
    return abs(amperes) if charges and "PiSugar 2" in model else None


async def ask(link: LineLink) -> dict[str, str]:
    """All answers that it gives. Raises DeviceError."""

    async def talk(link: LineLink) -> dict[str, str]:
        await link.send(*(f"get {name}" for name in (*ASKED, LAST)))
        found: dict[str, str] = {}
        for _ in range(MOST):
            if (read := ANSWER.fullmatch(await link.line())) is not None and read[1] in (*ASKED, LAST):
                found[read[1]] = read[2].strip()
                if read[1] == LAST:
                    return found
        raise link.garbled("more lines than it has answers")

    return await link.ask(talk)


def trusted(path: str) -> bool:
    """Whether a socket is there that root or this user made: in /tmp anybody could make one, and play a dying battery."""
    try:
        found = os.stat(path)  # noqa: PTH116 - nothing of a path but its state is wanted
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and found.st_uid in {0, os.geteuid()}


class Place:
    """Its socket where that is there, else TCP.

    Args:
        server: Where its server is.
    """

    def __init__(self, server: PiSugarServer) -> None:
        self._socket = server.socket
        self._tcp = Tcp(server.host, server.port)

    async def open(self) -> Streams:
        """A connection. Raises OSError, DeviceStalledError."""
        if await asyncio.to_thread(trusted, self._socket):
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError, PermissionError):  # left behind: TCP may do
                return await asyncio.open_unix_connection(self._socket, limit=LONGEST)
        return await self._tcp.open()

    def close(self) -> None:
        """Let go of what a look-up needed."""
        self._tcp.close()


def link_to(server: PiSugarServer) -> LineLink:
    """A connection to it."""
    return LineLink("PiSugar's server", STEP, Place(server))


class PiSugar:
    """One PiSugar (implements Ups).

    Args:
        server: Where its server is.
    """

    kind = "pisugar"
    name = "pisugar"
    simulated = False
    interval = 1.0

    def __init__(self, server: PiSugarServer) -> None:
        self._link = link_to(server)

    async def read(self) -> UpsReading:
        """One look. Raises DeviceError."""
        return told(await ask(self._link))

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()


class PiSugarDriver:
    """Finds PiSugar's server (implements UpsDriver).

    Args:
        server: Where it may be.
    """

    kind = "pisugar"

    def __init__(self, server: PiSugarServer) -> None:
        self._server = server

    async def probe(self) -> Sequence[Ups]:
        """One where its server tells a model, or is configured."""
        link = link_to(self._server)
        try:
            there = bool((await ask(link))[LAST])
        except DeviceError:  # nobody there: what is configured says so itself when it is read
            there = False
        finally:
            await link.close()
        return [PiSugar(self._server)] if there or self._server.configured else []

    def detect(self) -> Device:
        """Whether somebody listens there; blocks for half a second at most."""
        where = self._server.socket
        try:
            if trusted(where):
                with socket.socket(socket.AF_UNIX) as link:
                    link.settimeout(0.5)
                    link.connect(where)
            else:
                where = f"{self._server.host}:{self._server.port}"
                socket.create_connection((self._server.host, self._server.port), timeout=0.5).close()
        except OSError as error:
            health = Health.unhealthy if self._server.configured else Health.absent
            return Device("ups", "PiSugar", health, f"no PiSugar server on {where}: {error.strerror or error}", STEP)
        return Device("ups", "PiSugar", Health.healthy, f"PiSugar's server listens on {where}")
