"""Network UPS Tools: every UPS of every server, over its network protocol (RFC 9271, protocol 1.3, TCP 3493).

An own client of a few requests: those on PyPI keep a connection whose answer was not waited for, and take it for the next
request's (a look may be cancelled at any time), or block. STARTTLS is not spoken: the connection is in plain text,
the password too; reach a server on another machine through the VPN.

With a user and its password the appliance logs in as a secondary (LOGIN): the primary's upsmon then waits for it before
the UPS is switched off. Without, it only asks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from appliance.core.model import Device, Health
from appliance.core.power.model import Ups, UpsReading
from appliance.errors import AbsentError, DeviceError, DeviceStalledError
from appliance.hw.lane import Lane, together
from appliance.hw.ups import nut_words
from appliance.hw.ups.line import LineLink, Tcp
from appliance.hw.ups.told import named

PORT = 3493
MOST = 1000
"""Lines of a list; no UPS has so many variables."""
VARIABLE = re.compile(r'VAR (\S+) (\S+) "((?:[^"\\]|\\.)*)"')
LISTED = re.compile(r'UPS (\S+) "')
ESCAPED = re.compile(r"\\(.)")


class NutServer(msgspec.Struct, frozen=True):
    """One upsd, as the operator names it."""

    host: str = "127.0.0.1"
    port: int = PORT
    upses: tuple[str, ...] = ()
    """Those to read; empty for all that it has."""
    username: str = ""
    password: str = ""
    configured: bool = True
    """False for one that is only tried: it is not missed where it does not answer."""

    def __repr__(self) -> str:  # the password must not get into a log
        return f"NutServer({self.shown!r})"

    @property
    def shown(self) -> str:
        """Host, and the port where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORT else f"{host}:{self.port}"


def link_to(server: NutServer, ups: str = "") -> LineLink:
    """A connection to a server, logged in for a UPS where there is a user."""

    async def greet(link: LineLink) -> None:
        for request in (f"USERNAME {quoted(server.username)}", f"PASSWORD {quoted(server.password)}", f"LOGIN {ups}"):
            await link.send(request)
            answer = await link.line()
            if not answer.startswith("OK"):
                raise refusal(link, answer, ups, server)

    step = f"on the server: sudo systemctl status nut-server; its upsd.conf must LISTEN on {server.host} {server.port}."
    login = greet if server.username and ups else None
    return LineLink(f"NUT's upsd on {server.host}:{server.port}", step, Tcp(server.host, server.port), login)


def quoted(word: str) -> str:
    """A word as the protocol wants it where it has blanks. Raises DeviceError for one that would end the line."""
    if any(ord(char) < 32 for char in word):
        raise DeviceError("NUT's user or password has a control character.", "set them again, without line ends.")
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def refusal(link: LineLink, answer: str, ups: str, server: NutServer) -> AbsentError | DeviceError:
    """What an ERR of upsd means, and what to do (RFC 9271, 4.3)."""
    if not answer.startswith("ERR "):
        return link.garbled(answer)
    code = answer.split()[1] if len(answer.split()) > 1 else ""
    restart = f"on the server: sudo systemctl restart nut-driver@{ups}; it says why: journalctl -u nut-driver@{ups}"
    if code == "UNKNOWN-UPS":
        step = f"name one that it has (upsc -l {server.shown}), or add a section [{ups}] to its ups.conf."
        kind = DeviceError if ups in server.upses else AbsentError  # what the operator named is missed
        return kind(f"{link.what} has no UPS {ups}.", step)
    if code == "DATA-STALE":
        return DeviceError(f"{ups}: what {link.what} knows is stale; its driver does not hear from the UPS.", restart)
    if code == "DRIVER-NOT-CONNECTED":
        return DeviceError(f"{ups}: its driver does not run on the server of {link.what}.", restart)
    if code in {"ACCESS-DENIED", "USERNAME-REQUIRED", "PASSWORD-REQUIRED", "INVALID-PASSWORD", "INVALID-USERNAME"}:
        step = "its upsd.users must have this user with this password and `upsmon secondary`; or take the user out here."
        return DeviceError(f"{link.what} does not let us in ({code}).", step)
    return DeviceError(f"{link.what} refuses: {code}.", f"ask it by hand: upsc {ups}@{server.shown}")


async def names_of(link: LineLink, server: NutServer) -> tuple[str, ...]:
    """The UPSes that a server has. Raises DeviceError."""

    async def talk(link: LineLink) -> list[str]:
        await link.send("LIST UPS")
        return await _list(link, "LIST UPS", "", server)

    lines = await link.ask(talk)
    return tuple(found[1] for line in lines if (found := LISTED.match(line)))


async def variables_of(link: LineLink, ups: str, server: NutServer) -> dict[str, str]:
    """All that a server tells of a UPS. Raises DeviceError, AbsentError."""

    async def talk(link: LineLink) -> dict[str, str]:
        await link.send(f"LIST VAR {ups}")
        found = {}
        for line in await _list(link, f"LIST VAR {ups}", ups, server):
            if (read := VARIABLE.fullmatch(line)) is None or read[1] != ups:
                raise link.garbled(line)
            found[read[2]] = ESCAPED.sub(r"\1", read[3])
        return found

    return await link.ask(talk)


async def _list(link: LineLink, what: str, ups: str, server: NutServer) -> list[str]:
    begin = await link.line()
    if begin != f"BEGIN {what}":
        raise refusal(link, begin, ups, server)
    lines: list[str] = []
    while (line := await link.line()) != f"END {what}":
        if len(lines) >= MOST or line.startswith(("BEGIN ", "END ", "ERR ")):
            raise link.garbled(line)
        lines.append(line)
    return lines


class NutUps:
    """One UPS of a server (implements Ups).

    Args:
        server: Where it is.
        ups: Its name there.
    """

    kind = "nut"
    simulated = False
    interval = 0.5

    def __init__(self, server: NutServer, ups: str) -> None:
        self.name = f"nut:{ups}@{server.shown}"
        self._server = server
        self._ups = ups
        self._link = link_to(server, ups)

    async def read(self) -> UpsReading:
        """All its variables, as of now. Raises DeviceError, AbsentError."""
        return nut_words.told(self._ups, await variables_of(self._link, self._ups, self._server))

    async def close(self) -> None:
        """Log out."""
        await self._link.close("LOGOUT")


class SilentServer:
    """A server that is configured and did not say what UPSes it has (implements Ups): reading it says why.

    Args:
        server: Where it is.
    """

    kind = "nut"
    simulated = False
    interval = 5.0

    def __init__(self, server: NutServer) -> None:
        self.name = f"nut@{server.shown}"
        self._server = server
        self._link = link_to(server)

    async def read(self) -> UpsReading:
        """Ask again. Raises DeviceError while it says nothing, AbsentError once its UPSes stand for it."""
        names = await names_of(self._link, self._server)
        if not names:
            raise DeviceError(f"{self._link.what} has no UPS.", "add one to its ups.conf, and restart its nut-server.")
        raise AbsentError(f"{self._link.what} answers now: {', '.join(names[:4])}.", "it is read from the next search on.")

    async def close(self) -> None:
        """Log out."""
        await self._link.close("LOGOUT")


def local_names(root: Path) -> tuple[str, ...]:
    """The UPSes that NUT on this machine is configured to serve; none where it serves none, or hides its files from us."""
    try:
        mode = (root / "etc/nut/nut.conf").read_text(encoding="utf-8", errors="replace")
        sections = (root / "etc/nut/ups.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no NUT, or readable by its own user alone: then only asking tells
        return ()
    serves = re.search(r"^\s*MODE\s*=\s*[\"']?(standalone|netserver)\b", mode, re.MULTILINE | re.IGNORECASE)
    return tuple(re.findall(r"^\s*\[([^\]\s]+)\]", sections, re.MULTILINE)) if serves else ()


class NutDriver:
    """Finds the UPSes of servers (implements UpsDriver).

    Args:
        servers: Where to ask.
        root: Of the file system: a server that is only tried is missed where NUT's own files here say that it serves.
    """

    kind = "nut"

    def __init__(self, servers: Sequence[NutServer], root: Path = Path("/")) -> None:
        self._wanted = servers
        self._root = root
        self._lanes: dict[str, Lane] = {}
        self._links: dict[str, LineLink] = {}
        self._listed: dict[str, tuple[str, ...]] = {}
        """Server → the UPSes that it listed last: while it is silent they say so themselves, and nothing stands in for them."""

    def _servers(self) -> list[NutServer]:
        names = local_names(self._root)
        local = {"configured": True, "upses": names} if names else {}
        return [server if server.configured else msgspec.structs.replace(server, **local) for server in self._wanted]

    async def probe(self) -> Sequence[Ups]:
        """Those that are configured by name, and all that the other servers list."""
        servers = await asyncio.to_thread(self._servers)
        return [ups for found in await asyncio.gather(*map(self._of, servers)) for ups in found]

    async def _of(self, server: NutServer) -> list[Ups]:
        if server.upses:
            return [NutUps(server, name) for name in server.upses]
        link = self._links.setdefault(server.shown, link_to(server))
        try:
            names = self._listed[server.shown] = await names_of(link, server)
        except DeviceError:  # nobody there: what is configured, or was listed before, says so itself when it is read
            names = self._listed.get(server.shown, ())
        finally:
            await link.close("LOGOUT")
        silent: list[Ups] = [SilentServer(server)] if server.configured else []
        return [NutUps(server, name) for name in names] or silent

    def _heard(self, servers: Sequence[NutServer]) -> list[tuple[list[str], list[str]] | DeviceStalledError]:
        works = []
        for server in servers:
            lane = self._lanes.setdefault(server.shown, Lane(f"NUT on {server.shown}", nut_words.RESTART))
            works.append((lane, partial(nut_words.ask_blocking, server.host, server.port, server.upses)))
        return together(works, nut_words.ALL)

    def detect(self) -> Device:
        """Ask all servers at once for their UPSes and how they are; blocks for some seconds where one hangs."""
        told: list[str] = []
        faults: list[str] = []
        servers = self._servers()
        for server, heard in zip(servers, self._heard(servers), strict=True):
            good, bad = ([], [heard.message]) if isinstance(heard, DeviceStalledError) else heard
            told += good
            faults += bad if server.configured or good else []
        if faults:
            return Device("ups", "NUT", Health.unhealthy, "; ".join(faults[:4] + told[:4]), nut_words.RESTART)
        if told:
            return Device("ups", "NUT", Health.healthy, named(len(told), told.__getitem__))
        where = ", ".join(server.shown for server in servers) or "no server"
        return Device("ups", "NUT", Health.absent, f"no NUT on {where}", "for a UPS on USB: sudo apt-get install nut")
