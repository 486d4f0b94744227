"""HAProxy's configuration, and what its runtime API says and takes (management guide of 2.6, chapter 9.3)."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.errors import AbsentError, DeployError

ANSWER = 5.0
"""Seconds that it may take to answer."""
LARGEST = 8 << 20
"""Bytes of an answer."""
HEAVIEST = 256
"""Weight of the server that gets most."""
WATCHED, SPARE = ":w", ":s"
"""Ends of names: of a new version's servers during its rollout, and of the old version's while they have no share any more."""
CHECKED = "check inter 5s fastinter 1s downinter 1s fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down"
"""One connection that fails takes a watched server out until it can be connected to again."""
HARD_STOP = 60
"""Seconds that the workers of before a reload may go on with their open requests."""


class ServerLine(msgspec.Struct, frozen=True):
    """One replica as the balancer has it."""

    name: str
    """Unique in its service, such as "r7.alpha.18081"."""
    address: str
    port: int
    share: float
    """Percent of the traffic."""
    draining: bool = False
    """It gets no new requests, and ends those that it has."""

    @property
    def options(self) -> str:
        """What is said of it besides its place and weight."""
        told = {WATCHED: f" {CHECKED}", SPARE: " backup"}.get(self.name[-2:], "")
        return f"pool-purge-delay 1s{told}"


def replica_of(name: str) -> str:
    """Name of a server as its replica has it: the same one may be there as a spare too."""
    return name.removesuffix(WATCHED).removesuffix(SPARE)


class Front(msgspec.Struct, frozen=True):
    """One service as the balancer has it."""

    service: str
    listen: int
    address: str
    mode: str
    servers: tuple[ServerLine, ...] = ()

    @property
    def frame(self) -> tuple[str, int, str, str]:
        """What only a reload changes."""
        return self.service, self.listen, self.address, self.mode

    @property
    def bind(self) -> str:
        """As HAProxy writes it."""
        return f"[{self.address}]:{self.listen}" if ":" in self.address else f"{self.address}:{self.listen}"


class Stat(msgspec.Struct, frozen=True):
    """What it counted of one server since its worker began."""

    requests: int
    errors: int
    """Answers 5xx and broken ones (http), connections that failed (tcp)."""
    sessions: int
    """Open now."""
    latency_ms: float | None
    """Mean of the last 1024 answers."""
    status: str
    weight: int


def weights(servers: Sequence[ServerLine]) -> dict[str, int]:
    """Whole numbers up to 256 in the ratio of the shares; what has a share has at least 1, what has none 0 (spares apart)."""
    most = max((server.share for server in servers if not server.draining), default=0.0)
    found = {}
    for server in servers:
        share = 0.0 if server.draining else server.share
        found[server.name] = max(1, round(HEAVIEST * share / most)) if share > 0 and most > 0 else 0
        if server.name.endswith(SPARE):
            found[server.name] = HEAVIEST  # among spares, which are asked where nobody else can be
    return found


def config_text(fronts: Sequence[Front], socket: Path) -> str:
    """The whole configuration, with all servers, so that a start from it alone serves as before.

    Args:
        fronts: Services.
        socket: Of the runtime API.
    """
    lines = [
        "# Written by prime-spark; changes are overwritten.",
        "global",
        f"    stats socket {socket} mode 600 level admin expose-fd listeners",
        "    fd-hard-limit 16384",
        f"    hard-stop-after {HARD_STOP}s",
        "defaults",
        "    timeout connect 1500ms",  # a lost SYN is sent again after 1 s; a dead node is gone around
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout queue 10s",
        "    timeout http-request 30s",
        "    timeout http-keep-alive 15s",
        "    retries 3",
        "    option redispatch 1",
    ]
    for front in fronts:
        lines += _section(front)
    return "\n".join([*lines, ""])


def _section(front: Front) -> list[str]:
    name = front.service
    lines = [
        f"frontend {name}",
        f"    mode {front.mode}",
        f"    bind {front.bind}",
        f"    default_backend {name}",
        f"backend {name}",
    ]
    lines += [f"    mode {front.mode}", "    balance roundrobin", "    option allbackups"]
    if front.mode == "http":
        lines += [
            "    http-reuse safe", "    option forwardfor", "    retry-on conn-failure empty-response",
            "    http-request disable-l7-retry unless METH_GET",  # also HEAD; others may have been carried out
        ]  # fmt: skip
    given = weights(front.servers)
    return [
        *lines,
        *(f"    server {each.name} {_place(each)} weight {given[each.name]} {each.options}" for each in front.servers),
    ]


def _place(server: ServerLine) -> str:
    return f"[{server.address}]:{server.port}" if ":" in server.address else f"{server.address}:{server.port}"


def additions(front: Front, server: ServerLine) -> tuple[str, ...]:
    """Commands that add a server while it runs. A new one is in maintenance until it is made ready."""
    weight = weights(front.servers)[server.name]
    place = f"{front.service}/{server.name}"
    checks = (f"enable health {place}",) if server.name.endswith(WATCHED) else ()
    added = f"add server {place} {_place(server)} weight {weight} {server.options}"
    return (added, *checks, f"set server {place} state ready")


def removals(service: str, name: str) -> tuple[str, ...]:
    """Commands that take a server out; the second one is refused while it has connections."""
    return (f"set server {service}/{name} state maint", f"del server {service}/{name}")


def parse_stats(text: str) -> dict[tuple[str, str], Stat]:
    """(service, server) → what was counted.

    Args:
        text: What `show stat` says: CSV, its first line with "# " before the names.
    """
    found = {}
    for row in csv.DictReader(io.StringIO(text.removeprefix("# "))):
        if row.get("type") != "2":  # neither a frontend nor a backend
            continue
        http = row.get("mode") == "http"
        answers = sum(_number(row, f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
        broken = _number(row, "eresp")
        latency = row.get("rtime") or ""
        found[row["pxname"], row["svname"]] = Stat(
            requests=answers if http else _number(row, "stot"),
            errors=_number(row, "hrsp_5xx") + (broken if http else broken + _number(row, "econ")),
            sessions=_number(row, "scur"), latency_ms=float(latency) if latency and answers else None,
            status=row.get("status", ""), weight=_number(row, "uweight") if row.get("uweight") else _number(row, "weight"),
        )  # fmt: skip
    return found


def _number(row: dict[str, str], name: str) -> int:
    return int(row.get(name) or 0)


def parse_info(text: str) -> dict[str, str]:
    """What `show info` says, by name."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines()) if value}


async def ask(socket: Path, command: str) -> str:
    """One command of the runtime API.

    Raises:
        AbsentError: Nobody answers there.
        DeployError: It did not end its answer.
    """
    try:
        async with asyncio.timeout(ANSWER):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(f"{command}\n".encode())
                await writer.drain()
                parts: list[bytes] = []
                while (part := await reader.read(1 << 16)) and sum(map(len, parts)) < LARGEST:
                    parts.append(part)
                return b"".join(parts).decode(errors="replace")
            finally:
                writer.close()
    except TimeoutError as error:
        raise DeployError(
            f"HAProxy did not answer within {ANSWER:g} s.", "see its log, and the load of this machine."
        ) from error
    except OSError as error:
        raise AbsentError(f"HAProxy does not answer at {socket}: {error.strerror or error}.", "it is started anew.") from error
