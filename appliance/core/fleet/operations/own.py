"""Whether a node is the machine that the appliance runs on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from appliance.core.fleet.model import FleetShell
from appliance.errors import ShellError

BOOT = "/proc/sys/kernel/random/boot_id"


class OwnMachine:
    """Compares what a node says of itself with this machine: the kernel's start, and the host's name.

    Args:
        shell: Reaches the nodes.
    """

    def __init__(self, shell: FleetShell) -> None:
        self._shell = shell

    async def __call__(self, name: str) -> bool:
        """Both are equal. One that does not answer is none that could be ended."""
        try:
            ran = await self._shell.run(name, ["sh", "-c", f"cat {BOOT}; uname -n"], limit=15.0)
        except ShellError:
            return False
        return ran.stdout.decode("utf-8", "replace").split() == await asyncio.to_thread(_here)


def _here() -> list[str]:
    return [Path(BOOT).read_text(encoding="ascii").strip(), os.uname().nodename]
