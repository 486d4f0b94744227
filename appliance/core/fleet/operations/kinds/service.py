"""Services of the nodes: systemd's, and those of /etc/init.d where there is no systemd (OpenWRT, busybox)."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look, change
from appliance.core.model import Role

UNIT = r"^[A-Za-z0-9_][A-Za-z0-9:_.\\@-]{0,199}$"
LOOK = r"""
if command -v systemctl >/dev/null 2>&1; then
  echo manager=systemd
  systemctl show -p LoadState -p ActiveState -p UnitFileState -- "$1"
else
  script="/etc/init.d/${1%.service}"
  echo manager=init.d
  if [ ! -x "$script" ]; then echo LoadState=not-found; exit 0; fi
  echo LoadState=loaded
  check=status; grep -q rc.common "$script" && check=running
  if "$script" $check >/dev/null 2>&1; then echo ActiveState=active; else echo ActiveState=inactive; fi
  if "$script" enabled >/dev/null 2>&1 || ls /etc/rc2.d/S??"${1%.service}" >/dev/null 2>&1
  then echo UnitFileState=enabled; else echo UnitFileState=disabled; fi
fi
"""
DO = r"""
if command -v systemctl >/dev/null 2>&1; then systemctl "$2" -- "$1"; else "/etc/init.d/${1%.service}" "$2"; fi
"""
FORGET = r"""
if command -v systemctl >/dev/null 2>&1; then systemctl reset-failed -- "$1"; fi
"""
"""What fell stays "failed" however it is stopped, until somebody forgets it."""
PASSING = frozenset({"activating", "deactivating", "reloading", "refreshing", "maintenance"})
DOORS = frozenset({"ssh", "sshd", "dropbear", "openssh"})
"""By these we come in."""
PATIENCE = 20.0
"""Seconds for a service to come to rest."""


class Unit(Params):
    """One service."""

    unit: str = Field(pattern=UNIT, description="Name of the unit, such as redis-server")


async def state(host: Host, unit: str) -> dict[str, str]:
    """How a service is: manager, load, active, enabled. Raises ShellError, CommandFailedError."""
    told = dict(line.split("=", 1) for line in (await host.read(LOOK, unit)).splitlines() if "=" in line)
    return {
        "manager": told.get("manager", ""), "load": told.get("LoadState", ""), "active": told.get("ActiveState", ""),
        "enabled": told.get("UnitFileState", ""),
    }  # fmt: skip


async def settled(host: Host, unit: str) -> str:
    """Its state once it rests, or after a while. Raises ShellError, CommandFailedError."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + PATIENCE
    while True:
        active = (await state(host, unit))["active"]
        if active not in PASSING or loop.time() > ends:
            return active
        await asyncio.sleep(0.3)


class ServiceKind(Kind):
    """Base of all that is done with one service.

    Attributes:
        verb: As systemctl has it.
        back: The verb that takes it back; empty where there is none.
    """

    params = Unit
    verb: ClassVar[str]
    back: ClassVar[str] = ""

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"{self.verb} {args.unit}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        found = await state(host, args.unit)
        if found["load"] in {"not-found", ""}:
            return Look(found=found, refuse=f"there is no service {args.unit} here.", next_step="look at `service list`.")
        if found["load"] != "loaded":
            return Look(found=found, refuse=f"{args.unit} is {found['load']} here.", next_step="unmask or mend it first.")
        return Look(
            found=found, diff=self.diff(found), refuse=self.refusal(args), undo={} if self.back else None,
            next_step="log in at its own console for that.",
        )  # fmt: skip

    @abstractmethod
    def diff(self, found: dict[str, str]) -> str:
        """What it would change."""

    def refusal(self, args: Any) -> str:
        """Why it is not done."""
        del args
        return ""

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del look
        await host.do(DO, args.unit, self.verb, sudo=True, limit=max(host.limit, 120.0))
        return ""

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        await host.do(DO, args.unit, self.back, sudo=True, limit=max(host.limit, 120.0))
        if await settled(host, args.unit) == "failed" and look.found["active"] == "inactive":
            await host.do(FORGET, args.unit, sudo=True)


class Start(ServiceKind):
    """Start it."""

    name, summary, verb, back, dangerous = "service.start", "Start a service", "start", "stop", False

    def diff(self, found: dict[str, str]) -> str:
        """See ServiceKind."""
        return change(found["active"], "active")

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del look
        active = await settled(host, args.unit)
        return "" if active == "active" else f"{args.unit} is {active or 'not there'}"


class Restart(Start):
    """Restart it."""

    name, summary, verb, back, dangerous = "service.restart", "Restart a service", "restart", "", True
    cannot_undo = "a restart is not taken back"

    def diff(self, found: dict[str, str]) -> str:
        """See ServiceKind."""
        return f"- {found['active']}\n+ restarted"


class Stop(ServiceKind):
    """Stop it."""

    name, summary, verb, back, watched = "service.stop", "Stop a service", "stop", "start", False

    def diff(self, found: dict[str, str]) -> str:
        """See ServiceKind."""
        return "" if found["active"] in {"inactive", "failed"} else f"- {found['active']}\n+ inactive"

    def refusal(self, args: Any) -> str:
        """See ServiceKind."""
        return _door(args.unit)

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del look
        active = await settled(host, args.unit)
        return f"{args.unit} is {active} still" if active == "active" else ""


class Enable(ServiceKind):
    """Have it start with the machine."""

    name, summary, verb, back = "service.enable", "Have a service start with the machine", "enable", "disable"
    dangerous, role = False, Role.admin
    wanted: ClassVar[str] = "enabled"

    def diff(self, found: dict[str, str]) -> str:
        """See ServiceKind."""
        return change(found["enabled"], self.wanted)

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        look = await super().look(host, args)
        if look.diff and look.found["enabled"] not in {"enabled", "disabled"}:
            kind = look.found["enabled"] or "of no kind that can be enabled"
            return Look(found=look.found, refuse=f"{args.unit} is {kind}.", next_step="that is not switched here.")
        return look


class Disable(Enable):
    """Have it start no more with the machine."""

    name, summary, verb, back = "service.disable", "Have a service start no more with the machine", "disable", "enable"
    dangerous = True
    wanted = "disabled"

    def refusal(self, args: Any) -> str:
        """See ServiceKind."""
        return _door(args.unit)


class Logs(Params):
    """What is read of a journal."""

    unit: str = Field(pattern=UNIT, description="Name of the unit")
    lines: int = Field(100, ge=1, le=10_000, description="Newest lines to begin with")
    follow: bool = Field(False, description="Go on with what comes, until it is cancelled")


LOGS = r"""
if command -v journalctl >/dev/null 2>&1; then exec journalctl --no-pager -o short-iso -u "$1" -n "$2" $3; fi
if command -v logread >/dev/null 2>&1; then exec logread -e "${1%.service}" -l "$2" $3; fi
echo 'there is neither journalctl nor logread here' >&2; exit 127
"""


class ServiceLogs(Kind):
    """Show a service's journal, and follow it."""

    name, summary, params = "service.logs", "Show the log of a service", Logs
    changes, looks, dangerous = False, False, False
    cannot_undo = "it only reads"

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"{'follow' if args.follow else 'show'} the log of {args.unit}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind; nothing is looked at."""
        del host, args
        return Look()

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del look
        follow = ["-f"] if args.follow else [""]
        status = await host.live(LOGS, args.unit, str(args.lines), *follow, sudo=host.node.sudo != "never")
        if status:
            raise host.failed(f"exit status {status}", status)
        return ""


def _door(unit: str) -> str:
    return f"{unit} is how we come in here." if unit.split(".", maxsplit=1)[0] in DOORS else ""


KINDS = (Start(), Restart(), Stop(), Enable(), Disable(), ServiceLogs())
