"""Our own program on the nodes: installed, upgraded and removed, each proven before it is called done."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar

from appliance.core.actions import NoParams
from appliance.core.agents import layout, probe, scripts
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.model import Role
from appliance.errors import ApplianceError, CommandFailedError, ConfigError, ShellError, StoreError

if TYPE_CHECKING:
    from appliance.core.agents.depot import Depot
    from appliance.core.agents.payload import Payload, Release
    from appliance.core.agents.setup import Setup

LONG = 900.0
"""Seconds that unpacking may take on a slow machine."""
RISES = 30.0
"""Seconds in which the unit must be up."""
FALLS = 3
"""Starts anew after which it is not waited for any more."""
NONE: dict[str, Any] = {"release": "", "setup": "", "secrets": "none", "running": False, "enabled": False}
"""A node without an agent that works."""


class AgentKind(Kind):
    """Base of what is done with agents."""

    params = NoParams
    role, dangerous, limit = Role.admin, True, LONG

    @staticmethod
    def depot(host: Host) -> Depot:
        """What it stands on. Raises CommandFailedError."""
        if host.agents is None:
            raise host.failed("nothing can be installed from here", next_step="start the appliance whole.")
        return host.agents()

    @staticmethod
    async def found(host: Host) -> probe.Found:
        """How the node is. Raises ShellError, CommandFailedError."""
        said = await host.sh(scripts.PROBE, sudo=True)
        if said.exit_status:
            raise host.failed(f"it cannot be looked at: {said.complaint}", said.exit_status)
        return probe.parse(said.out)


class Install(AgentKind):
    """Bring this appliance's release there, start it, and wait for its sign of life."""

    name, summary = "agent.install", "Install the agent, in this appliance's version"
    heavy = True
    room: ClassVar[dict[str, int]] = {"/opt": 160 << 20, "/var/tmp": 40 << 20}  # noqa: S108 asked for its room only

    def words(self, args: Any) -> str:
        """See Kind."""
        del args
        return "install the agent"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        del args
        found = await self.found(host)
        try:
            depot = self.depot(host)
            made, told = await depot.release(), await depot.setup(host.name)
        except (ConfigError, StoreError, CommandFailedError) as error:
            return Look(refuse=error.message, next_step=error.next_step)
        except ApplianceError as error:
            return Look(refuse=error.message, next_step=error.next_step)
        if why := await self._refusal(host, depot, found, made):
            return Look(refuse=why[0], next_step=why[1])
        state = _state(found, told)
        return Look(found=state, diff=_diff(found, state, made, told), undo={})

    async def _refusal(self, host: Host, depot: Depot, found: probe.Found, made: Release) -> tuple[str, str] | None:
        if await asyncio.to_thread(found.is_here) or host.name == depot.settings.node.device_id:
            return "it is the Control PC itself, which has a worker of its own.", "leave it out."
        why = probe.obstacle(found)
        if why[0]:
            return why
        return self._versions(found, made)

    def _versions(self, found: probe.Found, made: Release) -> tuple[str, str] | None:
        from packaging.version import InvalidVersion, Version

        there = layout.version_of(found.release)
        try:
            newer = bool(there) and Version(there) > Version(made.version)
        except InvalidVersion:
            return f"the agent there calls its version {there!r}.", "remove it (agent remove), and install it anew."
        if newer:
            return f"its agent is of the newer version {there}; this appliance is {made.version}.", "upgrade this appliance."
        return None

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del args
        begun = time.monotonic()
        depot, found = self.depot(host), await self.found(host)
        made, told = await depot.release(), await depot.setup(host.name)
        sent = 0
        if found.release != made.name:
            sent = await self._unpack(host, depot, found, made)
        before = depot.session(host.name)
        await host.do(scripts.SWITCH, made.name, sudo=True, stdin=told.lines(), limit=max(host.limit, 120.0))
        await self._risen(host, made)
        note = await self._heard(host, depot, before, made)
        await host.do(scripts.FINISH, made.name, sudo=True)
        size = f"{sent / 1e6:.1f} MB sent, " if sent else ""
        return f"{made.name}: {size}{time.monotonic() - begun:.1f} s; {note}"

    async def _unpack(self, host: Host, depot: Depot, found: probe.Found, made: Release) -> int:
        python = found.python
        if python is None:
            raise host.failed("there is no Python any more", next_step="plan it anew.")
        target = found.target()
        libraries = await depot.libraries(target)
        there = bool(found.release) and found.values.get("libraries") == libraries
        payload, how = await depot.payload(target, host.say, there=there)
        host.say(f"{payload.size / 1e6:.1f} MB are sent; the libraries are {payload.told}")
        staged = await self._send(host, payload)
        try:
            await host.do(
                scripts.UNPACK, f"{staged}/archive.tar", payload.sha256, made.name, python.path, how, made.version, libraries,
                sudo=True, limit=max(host.limit, LONG),
            )  # fmt: skip
        finally:
            await _unstage(host, staged)
        return payload.size

    async def _send(self, host: Host, payload: Payload) -> str:
        said = await host.sh(scripts.STAGE, layout.STAGING)
        staged = said.out.strip()
        if said.exit_status or not staged.startswith(f"{layout.STAGING}."):
            raise host.failed(f"nothing can be put into /var/tmp: {said.complaint}", said.exit_status)
        host.acted = True

        async def blocks() -> Any:
            with await asyncio.to_thread(payload.path.open, "rb") as file:
                while block := await asyncio.to_thread(file.read, 1 << 20):
                    yield block

        try:
            async with asyncio.timeout(max(host.limit, LONG)), host.shell.files(host.name) as files:
                await files.write(f"{staged}/archive.tar", blocks(), mode=0o600)
        except TimeoutError:
            raise ShellError(f"{host.name} did not take the archive in {LONG:g} s.", "look at its link.") from None
        except ApplianceError:
            await _unstage(host, staged)
            raise
        return staged

    async def _risen(self, host: Host, made: Release) -> None:
        """Wait until its unit is up, of our version. Raises ShellError, CommandFailedError with its last lines."""
        ends = time.monotonic() + RISES
        while wrong := await unsound(host, made):
            if time.monotonic() > ends:
                raise await _fallen(host, wrong)
            await asyncio.sleep(0.3)

    async def _heard(self, host: Host, depot: Depot, before: str, made: Release) -> str:
        """Wait for its sign of life where one can come. Raises ShellError, CommandFailedError."""
        transport = depot.transport
        if not transport.up:
            return f"its sign of life could not be waited for ({transport.reason or 'Kafka is not configured here'})"

        async def check() -> None:
            if wrong := await unsound(host, made):
                raise await _fallen(host, wrong)

        host.say("it runs; its first sign of life is waited for")
        worker = await depot.joined(host.name, before, check)
        if worker is None:
            limit = depot.settings.agents.join_seconds
            step = "look whether that machine reaches Kafka (agents.kafka_servers)."
            raise await _fallen(host, f"it gave no sign of life over Kafka within {limit:g} s", step)
        if worker.version != made.version:
            raise await _fallen(host, f"another worker gives signs of life as {host.name}, of version {worker.version}")
        able = ", ".join(each.name for each in worker.capabilities) or "nothing: agents.commands and its kin are empty"
        return f"it offers {able}"

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del args, look
        return await unsound(host, await self.depot(host).release())

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        was = look.found
        if not was["release"]:
            await host.do(scripts.REMOVE, sudo=True, limit=max(host.limit, 120.0))
            return
        words = ("yes" if was["enabled"] else "no", "yes" if was["running"] else "no")
        await host.do(scripts.BACK, was["release"], *words, sudo=True, limit=max(host.limit, 120.0))


class Upgrade(Install):
    """The same where there is an agent already."""

    name, summary = "agent.upgrade", "Upgrade the agent to this appliance's version"

    def words(self, args: Any) -> str:
        """See Kind."""
        del args
        return "upgrade the agent"

    def _versions(self, found: probe.Found, made: Release) -> tuple[str, str] | None:
        if not found.release:
            what = "only a part of an agent" if found.left else "no agent"
            return f"there is {what} there.", "install it: agent install."
        return super()._versions(found, made)


class Remove(AgentKind):
    """Stop it, and leave nothing of it there."""

    name, summary = "agent.remove", "Remove the agent, with all that it left"
    cannot_undo = "its files are gone; `agent install` brings it back"

    def words(self, args: Any) -> str:
        """See Kind."""
        del args
        return "remove the agent"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        del args
        found = await self.found(host)
        why = probe.foreign(found)
        if why[0]:
            return Look(refuse=why[0], next_step=why[1])
        shown = [f"- {each}" for each in found.left]
        return Look(found={"release": found.release, "left": list(found.left)}, diff="\n".join(shown))

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del args
        await host.do(scripts.REMOVE, sudo=True, limit=max(host.limit, 120.0))
        return f"{look.found['release'] or 'what was left of one'} is gone"

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del args, look
        left = (await self.found(host)).left
        return f"{', '.join(left)} is there still" if left else ""


async def unsound(host: Host, made: Release) -> str:
    """What is wrong with an agent there; empty where it is up, and of our release. Raises ShellError."""
    said = await host.sh(scripts.STATE, sudo=True)
    told = dict(line.split("=", 1) for line in said.out.splitlines() if "=" in line)
    if told.get("release") != made.name:
        return f"the release in force is {told.get('release') or 'none'}, not {made.name}"
    if told.get("version") != f"prime-spark {made.version}":
        return f"it says that it is {told.get('version')}, not prime-spark {made.version}"
    active, again = told.get("ActiveState", ""), told.get("NRestarts", "0")
    if active != "active":
        return f"{layout.UNIT} is {active or 'not there'} ({told.get('SubState', '')})"
    if again.isdigit() and int(again) >= FALLS:
        return f"{layout.UNIT} was started anew {again} times"
    return ""


async def _fallen(host: Host, wrong: str, next_step: str = "") -> CommandFailedError:
    """The error of an agent that is not well, with its last lines."""
    lines = (await host.sh(scripts.JOURNAL, sudo=True)).out.strip().splitlines()
    for line in lines:
        host.say(line)
    last = " / ".join(line.strip() for line in lines[-3:])
    return host.failed(f"{wrong}; its journal ends with: {last[-500:] or 'nothing'}", next_step=next_step)


async def _unstage(host: Host, staged: str) -> None:
    """Nothing of what was sent stays; a link that is gone leaves it to the next installation, or to the removal."""
    try:
        await host.sh(scripts.UNSTAGE, staged)
    except ShellError as error:
        host.say(f"{staged} stays for now: {error.message}")


def _state(found: probe.Found, told: Setup) -> dict[str, Any]:
    release = found.former if found.pending else found.release  # whither an undo goes: not to what never came to its end
    if not release:
        return dict(NONE)
    secrets = "same" if found.secret_sums == told.secret_sums() else "other"
    text = "\n".join(f"{name} {each}" for name, each in sorted(found.sums.items()))
    return {
        "release": release, "setup": text, "secrets": secrets, "running": found.running, "enabled": found.enabled,
        **({"pending": True} if found.pending else {}),
    }  # fmt: skip


def _diff(found: probe.Found, state: dict[str, Any], made: Release, told: Setup) -> str:
    """What an installation would change; empty where all of it is so already."""
    lines: list[str] = []
    if state["release"] != made.name:
        broken = "an installation that was broken off" if found.left else "no agent"
        lines += [f"- {state['release'] or broken}", f"+ {made.name}"]
        if not state["release"]:
            return "\n".join([*lines, f"+ {layout.UNIT}, enabled and started", f"+ {layout.CONFIG}/config.toml and secrets"])
    wanted = told.sums()
    for name in sorted({*wanted, *found.sums}):
        if wanted.get(name) != found.sums.get(name):
            here = f"+ {name} {wanted[name][:12]}" if name in wanted else f"+ no {name}"
            lines += [f"- {name} {found.sums[name][:12]}" if name in found.sums else f"- no {name}", here]
    if state.get("pending"):
        lines += ["- an installation that was broken off", "+ it comes to its end"]
    if state["secrets"] != "same":
        lines += ["- other secrets", "+ the secrets of this appliance"]
    for name, is_so in (("running", state["running"]), ("enabled", state["enabled"])):
        lines += [] if is_so else [f"- not {name}", f"+ {name}"]
    return "\n".join(lines)


KINDS = (Install(), Upgrade(), Remove())
