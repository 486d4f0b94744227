"""Single containers of the nodes, Docker's or podman's."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look, change
from appliance.core.fleet.operations.kinds import _docker as docker

INSPECT = "engine container inspect -f '{{.State.Status}} {{.Id}}' \"$1\""
LOGS = 'engine logs --timestamps --tail "$2" $3 "$1"'


class Name(Params):
    """One container."""

    container: str = Field(pattern=docker.NAME, description="Name of the container")


class ContainerKind(Kind):
    """Base of all that is done with a container.

    Attributes:
        verb: As docker has it.
        back: The verb that takes it back; empty where there is none.
        wanted: Its state afterwards.
    """

    params = Name
    verb: ClassVar[str]
    back: ClassVar[str] = ""
    wanted: ClassVar[str] = "running"

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"{self.verb} the container {args.container}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        said, root = await docker.ask(host, INSPECT, args.container)
        if said.exit_status:
            return Look(refuse=f"{said.complaint}.", next_step="list them with `fleet container-list`.")
        state, _, ident = said.out.strip().partition(" ")
        state = "running" if state == "running" else "stopped"
        return Look(found={"state": state, "id": ident}, diff=self.diff(state), undo={"root": root})

    def diff(self, state: str) -> str:
        """What it would change."""
        return change(state, self.wanted)

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        _, root = await docker.ask(host, INSPECT, args.container)
        await docker.act(host, 'engine "$2" "$1"', args.container, self.verb, root=root)
        return ""

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        now = (await self.look(host, args)).found
        return "" if now and now["state"] == self.wanted else f"{args.container} is not {self.wanted}"

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        await docker.act(host, 'engine "$2" "$1"', args.container, self.back, root=look.undo["root"])


class Start(ContainerKind):
    """Start it."""

    name, summary, verb, back, dangerous = "container.start", "Start a container", "start", "stop", False


class Stop(ContainerKind):
    """Stop it."""

    name, summary, verb, back, wanted = "container.stop", "Stop a container", "stop", "start", "stopped"
    watched = False


class Restart(ContainerKind):
    """Restart it."""

    name, summary, verb, cannot_undo = "container.restart", "Restart a container", "restart", "a restart is not taken back"

    def diff(self, state: str) -> str:
        """See ContainerKind."""
        return f"- {state}\n+ restarted"


class Logs(Name):
    """What is read of its log."""

    lines: int = Field(100, ge=1, le=10_000, description="Newest lines to begin with")
    follow: bool = Field(False, description="Go on with what comes, until it is cancelled")


class ContainerLogs(Kind):
    """Show a container's log, and follow it."""

    name, summary, params = "container.logs", "Show the log of a container", Logs
    changes, looks, dangerous = False, False, False
    cannot_undo = "it only reads"

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"{'follow' if args.follow else 'show'} the log of the container {args.container}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind; nothing is looked at."""
        del host, args
        return Look()

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del look
        said, root = await docker.ask(host, INSPECT, args.container)
        if said.exit_status:
            raise host.failed(said.complaint, said.exit_status)
        follow = "-f" if args.follow else ""
        if status := await host.live(docker.TOOLS + LOGS, args.container, str(args.lines), follow, sudo=root):
            raise host.failed(f"exit status {status}", status)
        return ""


KINDS = (Start(), Stop(), Restart(), ContainerLogs())
