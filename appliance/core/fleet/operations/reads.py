"""What can be listed of a node, now: services, containers, projects, accounts, keys, upgrades, the firewall."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from appliance.core.fleet.model import Container, FleetShell, Node, Unit
from appliance.core.fleet.operations import firewall as walls
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kinds import _docker as docker
from appliance.core.fleet.operations.kinds.keys import READ as KEYS
from appliance.core.fleet.operations.kinds.keys import entries
from appliance.core.fleet.operations.kinds.packages import SIMULATE, upgrades
from appliance.core.fleet.operations.kinds.users import FIRST
from appliance.errors import ApplianceError

LIMIT = 30.0
PARALLEL = 32
"""Nodes that are asked at the same time."""
NOBODY = 65534
UNITS = r"""
if command -v systemctl >/dev/null 2>&1; then
  exec systemctl list-units --type=service --all --no-legend --plain --no-pager
fi
for script in /etc/init.d/*; do
  [ -x "$script" ] || continue
  check=status; grep -q rc.common "$script" && check=running
  if "$script" $check >/dev/null 2>&1; then active='active running'; else active='inactive dead'; fi
  echo "${script##*/} loaded $active"
done
"""
CONTAINERS = (
    "engine ps -a --format '{{.Names}}\t{{.Image}}\t{{.State}}\t{{.Status}}\t{{.Ports}}\t"
    '{{.Label "com.docker.compose.project"}}\t{{.Label "com.docker.compose.service"}}\''
)
USERS = "getent passwd 2>/dev/null || cat /etc/passwd"


class Told(msgspec.Struct, frozen=True):
    """What one node told."""

    node: str
    rows: Any = None
    error: str = ""
    """Why it told nothing."""


Read = Callable[[Host], Awaitable[Any]]


async def ask(shell: FleetShell, nodes: Sequence[Node], read: Read) -> list[Told]:
    """Ask all of them, each by itself: one that does not answer keeps none of the others.

    Args:
        shell: Reaches them.
        nodes: Whom.
        read: What.
    """
    room = asyncio.Semaphore(PARALLEL)

    async def one(node: Node) -> Told:
        if not node.enabled:
            return Told(node.name, error="it is set aside (maintenance)")
        async with room:
            try:
                return Told(node.name, await read(Host(shell, node, LIMIT)))
            except ApplianceError as error:
                return Told(node.name, error=str(error))

    return list(await asyncio.gather(*(one(node) for node in nodes)))


async def services(host: Host) -> list[Unit]:
    """Services, by name. Raises ShellError, CommandFailedError."""
    found = (line.split(None, 4) for line in (await host.read(UNITS)).splitlines())
    return sorted(
        (
            Unit(cells[0], cells[1], cells[2], cells[3], cells[4] if len(cells) > 4 else "")
            for cells in found
            if len(cells) >= 4
        ),
        key=lambda unit: unit.name,
    )


async def containers(host: Host) -> list[Container]:
    """Containers, by name. Raises ShellError, CommandFailedError."""
    said, _ = await docker.ask(host, CONTAINERS)
    if said.exit_status:
        raise host.failed(said.complaint, said.exit_status)
    found = (line.split("\t") for line in said.out.splitlines())
    return sorted((Container(*cells[:7]) for cells in found if len(cells) >= 7), key=lambda each: each.name)


async def projects(host: Host) -> list[dict[str, Any]]:
    """Compose projects with their services' states, by name. Raises ShellError, CommandFailedError."""
    found: dict[str, dict[str, str]] = {}
    for each in await containers(host):
        if each.project:
            found.setdefault(each.project, {})[each.service or each.name] = each.state
    return [
        {"project": name, "services": states, "running": sum(state == "running" for state in states.values())}
        for name, states in sorted(found.items())
    ]


async def users(host: Host) -> list[dict[str, Any]]:
    """People's accounts, and root's, by number. Raises ShellError, CommandFailedError."""
    found = (line.split(":") for line in (await host.read(USERS)).splitlines())
    rows = [
        {"user": cells[0], "uid": int(cells[2]), "home": cells[5], "shell": cells[6]}
        for cells in found
        if len(cells) >= 7 and cells[2].isdigit() and (cells[2] == "0" or FIRST <= int(cells[2]) < NOBODY)
    ]
    return sorted(rows, key=lambda row: int(str(row["uid"])))


async def keys(host: Host, user: str) -> list[dict[str, str]]:
    """Keys that may log in as somebody. Raises ShellError, CommandFailedError."""
    return entries(await host.read(KEYS, user, sudo=user != host.node.user))


async def packages(host: Host) -> list[dict[str, str]]:
    """Packages that have a newer version, as the node's lists know it. Raises ShellError, CommandFailedError."""
    text = await host.read(SIMULATE, limit=120.0)
    return [{"package": name, "installed": old, "offered": new} for name, old, new in upgrades(text)]


async def firewall(host: Host) -> walls.Firewall:
    """The firewall in short. Raises ShellError, CommandFailedError."""
    return walls.parse(await host.read(walls.SCRIPT, sudo=True))
