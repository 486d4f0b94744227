"""Restart machines, and wait until they are back with their services."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.errors import CommandFailedError, ShellError

LIFE = r"""
cat /proc/sys/kernel/random/boot_id
sed 's/.*) //' /proc/1/stat | cut -d' ' -f20
"""
"""Another one after each start: the kernel's own id, and when the first process began (containers share the kernel)."""
GOING = r"""
( trap '' HUP; sleep 1
  if command -v systemctl >/dev/null 2>&1; then systemctl "$1" || "$2"; else "$2"; fi
) </dev/null >/dev/null 2>&1 &
"""
"""In the background, so that the answer gets out before the link ends."""
EVERY = 1.0
"""Seconds between two tries whether it answers."""


class Waiting(Params):
    """How long it may take."""

    wait: float = Field(300.0, ge=1, le=3600, description="Seconds to wait until it answers again")


class UntoldError(CommandFailedError):
    """It answers, and does not tell when it was started: it is on its way down, or up."""


async def life(host: Host, limit: float = 15.0) -> str:
    """What tells one start of a machine from another, within so many seconds. Raises ShellError, UntoldError."""
    said = await host.sh(LIFE, limit=min(host.limit, limit))
    parts = said.out.split()
    if said.exit_status or len(parts) != 2:
        raise UntoldError(f"{host.name} does not tell when it was started: {said.complaint}.", "look at it.", said.exit_status)
    return "/".join(parts)


class Reboot(Kind):
    """Restart machines."""

    name, summary, params = "reboot", "Restart machines and wait until they are back", Waiting
    heavy, settle = True, 90.0
    cannot_undo = "a restart is not taken back"

    def words(self, args: Any) -> str:
        """See Kind."""
        return "reboot"

    def own_machine(self) -> str:
        """See Kind."""
        return "rebooted"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        now = await life(host)
        up = (await host.read("cut -d. -f1 /proc/uptime")).strip()
        people = (await host.sh("who | cut -d' ' -f1 | sort -u | tr '\\n' ' '")).out.strip()
        there = f", logged in: {people}" if people else ""
        return Look(found={"life": now}, diff=f"- up for {_since(up)}{there}\n+ started anew")

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        loop = asyncio.get_running_loop()
        began, last = loop.time(), ""
        await host.do(GOING, "reboot", "reboot", sudo=True)
        host.say(f"{host.name} was told to restart")
        while loop.time() - began < args.wait:
            await asyncio.sleep(EVERY)
            try:
                now = await life(host)
            except (ShellError, UntoldError) as error:
                last = error.message
                continue
            if now != look.found["life"]:
                host.say(f"{host.name} is back after {loop.time() - began:.0f} s")
                return f"back after {loop.time() - began:.0f} s"
            last = ""
        if last:
            raise ShellError(
                f"{host.name} was told to restart and has not come back within {args.wait:g} s: {last}", "look at it."
            )
        raise host.failed(f"it was told to restart and has not done so within {args.wait:g} s", next_step="look at it.")


def _since(seconds: str) -> str:
    if not seconds.isdigit():
        return "some time"
    count = int(seconds)
    return f"{count // 86400} d" if count >= 86400 else f"{count // 3600} h" if count >= 3600 else f"{count // 60} min"


KINDS = (Reboot(),)
