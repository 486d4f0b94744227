"""What must hold on a node before anything is done there."""

from __future__ import annotations

from collections.abc import Callable

from appliance.core.fleet.model import Node
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind
from appliance.core.fleet.operations.locks import NodeLocks

DISK = r"""
for folder in "$@"; do
  df -Pk -- "$folder" 2>/dev/null | awk -v f="$folder" 'NR==2{print f, $4}'
done
"""

Power = Callable[[str], str]
"""Node → why nothing heavy may be begun there now ("the UPS is at 12 %"); empty where it may."""


def set_aside(node: Node) -> str:
    """The operator has it in maintenance."""
    return "" if node.enabled else "it is set aside (maintenance)"


def busy(node: Node, locks: NodeLocks, operation_id: str) -> str:
    """Another operation works on it."""
    hold = locks.holder(node.name)
    return "" if hold is None or hold.operation_id == operation_id else f"{hold.owner} is at it: {hold.title}"


def power_going(node: Node, kind: Kind, power: Power) -> str:
    """Nothing long is begun where the power is going."""
    why = power(node.name) if kind.heavy else ""
    return f"{why}: nothing is begun that must not be cut off" if why else ""


async def disk_room(host: Host, kind: Kind) -> str:
    """Enough of the disk is free. Raises ShellError, CommandFailedError."""
    if not kind.room:
        return ""
    free = dict(line.rsplit(" ", 1) for line in (await host.read(DISK, *kind.room)).splitlines() if " " in line)
    for folder, wanted in kind.room.items():
        if folder in free and int(free[folder]) * 1024 < wanted:
            return f"{int(free[folder]) // 1024} MiB are free at {folder}, and it needs {wanted >> 20}"
    return ""
