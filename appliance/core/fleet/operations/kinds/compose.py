"""Compose projects of the nodes, by `docker compose` or docker-compose, without root where that is enough."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any, ClassVar

import msgspec
from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.fleet.operations.kinds import _docker as docker

LOOK = r"""
label=com.docker.compose
rows=$(engine ps -a --filter "label=$label.project=$1" --format '{{.Label "com.docker.compose.service"}}	{{.State}}	{{.Status}}	{{.Label "com.docker.compose.config-hash"}}	{{.Label "com.docker.compose.project.working_dir"}}	{{.Label "com.docker.compose.project.config_files"}}') || exit $?
folder=$2
if [ -z "$folder" ]; then folder=$(printf '%s\n' "$rows" | cut -f5 | grep . | head -n 1); fi
printf 'folder\t%s\n' "$folder"
printf '%s\n' "$rows" | grep . | sed 's/^/row	/'
if [ -n "$folder" ] && cd "$folder" 2>/dev/null; then
  hashes=$(compose -p "$1" config --hash '*' 2>/dev/null)
  if [ -n "$hashes" ]; then printf '%s\n' "$hashes" | sed 's/^/hash	/;s/ /	/'
  else compose -p "$1" config --services 2>/dev/null | sed 's/^/service	/'; fi
fi
exit 0
"""  # noqa: E501 the format cannot be broken
DO = r"""
project=$1; folder=$2; shift 2
cd "$folder" || exit 66
compose -p "$project" "$@"
"""
PATIENCE = 30.0
"""Seconds for containers to come up."""


class Project(Params):
    """One project."""

    project: str = Field(pattern=docker.NAME, description="Name of the compose project")
    folder: str = Field(
        "", max_length=500, pattern=r"^(|/[^\x00-\x1f]*)$", description="Where its file lies, where no container of it tells"
    )


class State(msgspec.Struct, frozen=True):
    """How a project is."""

    folder: str
    services: dict[str, str]
    """Service → "running", "stopped", "unhealthy", "absent"."""
    recreated: tuple[str, ...]
    """Services whose containers are not as the file has them now."""
    root: bool


async def state(host: Host, args: Any) -> State:
    """How a project is. Raises ShellError, CommandFailedError."""
    said, root = await docker.ask(host, LOOK, args.project, args.folder)
    if said.exit_status:
        raise host.failed(said.complaint, said.exit_status)
    folder, services, old, wanted = "", dict[str, str](), dict[str, str](), dict[str, str]()
    for line in said.out.splitlines():
        kind, *cells = line.split("\t")
        if kind == "folder":
            folder = cells[0]
        elif kind == "row" and len(cells) >= 4:
            services[cells[0]] = _worse(services.get(cells[0]), cells[1], cells[2])
            old[cells[0]] = cells[3]
        elif kind == "hash" and len(cells) >= 2:
            wanted[cells[0]] = cells[1].strip()
            services.setdefault(cells[0], "absent")
        elif kind == "service":
            services.setdefault(cells[0], "absent")
    recreated = tuple(sorted(name for name, hashed in wanted.items() if old.get(name, hashed) != hashed))
    return State(folder, dict(sorted(services.items())), recreated, root)


def _worse(before: str | None, running: str, status: str) -> str:
    now = "unhealthy" if "(unhealthy)" in status else "running" if running.lower() == "running" else "stopped"
    return now if before in {None, "running"} else str(before)


class ComposeKind(Kind):
    """Base of all that is done with a project.

    Attributes:
        verb: As people have it.
        command: As compose has it.
    """

    params = Project
    settle = 15.0
    verb: ClassVar[str]
    command: ClassVar[tuple[str, ...]]

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"{self.verb} the compose project {args.project}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        now = await state(host, args)
        if not now.folder or not now.services:
            step = "give the folder of its compose file."
            return Look(refuse=f"there is no compose project {args.project} here.", next_step=step)
        found = {"folder": now.folder, "services": now.services, "recreated": now.recreated}
        undo, stays = self.way_back(now)
        return Look(found=found, diff=self.diff(now), undo=undo, cannot_undo=stays)

    @abstractmethod
    def diff(self, now: State) -> str:
        """What it would change."""

    def way_back(self, now: State) -> tuple[Any, str]:
        """What undoing needs (None where there is no way), and what of it stays."""
        return {"root": now.root}, ""

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        now = await state(host, args)
        await docker.act(host, DO, args.project, look.found["folder"], *self.command, root=now.root)
        return ""

    async def _up(self, host: Host, args: Any) -> str:
        loop = asyncio.get_running_loop()
        ends = loop.time() + PATIENCE
        while True:
            down = [f"{name} is {how}" for name, how in (await state(host, args)).services.items() if how != "running"]
            if not down or loop.time() > ends:
                return ", ".join(down)
            await asyncio.sleep(1.0)


class Up(ComposeKind):
    """Bring it up as its file has it."""

    name, summary, verb, command = "compose.up", "Bring a compose project up", "bring up", ("up", "-d")

    def diff(self, now: State) -> str:
        """See ComposeKind."""
        lines = [f"- {name}: {how}\n+ {name}: running" for name, how in now.services.items() if how != "running"]
        lines += [
            f"- {name}\n+ {name}: made anew, its file changed" for name in now.recreated if now.services[name] == "running"
        ]
        return "\n".join(lines)

    def way_back(self, now: State) -> tuple[Any, str]:
        """See ComposeKind."""
        if now.recreated:
            return None, f"{', '.join(now.recreated)}: the file that made the containers of before is not known"
        return {"root": now.root}, ""

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        return await self._up(host, args)

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        before, folder, root = look.found["services"], look.found["folder"], look.undo["root"]
        if stop := [name for name, how in before.items() if how in {"stopped", "unhealthy"}]:
            await docker.act(host, DO, args.project, folder, "stop", *stop, root=root)
        if all(how == "absent" for how in before.values()):
            await docker.act(host, DO, args.project, folder, "down", root=root)
        elif absent := [name for name, how in before.items() if how == "absent"]:
            await docker.act(host, DO, args.project, folder, "rm", "-s", "-f", *absent, root=root)


class Down(ComposeKind):
    """Take it down; its volumes stay."""

    name, summary, verb, command = "compose.down", "Take a compose project down, its volumes stay", "take down", ("down",)
    watched = False

    def diff(self, now: State) -> str:
        """See ComposeKind."""
        return "\n".join(f"- {name}: {how}\n+ {name}: absent" for name, how in now.services.items() if how != "absent")

    def way_back(self, now: State) -> tuple[Any, str]:
        """See ComposeKind."""
        return {"root": now.root}, "the containers are made anew: what they had written outside of volumes is gone"

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        left = [name for name, how in (await state(host, args)).services.items() if how != "absent"]
        return f"{', '.join(left)} did not go" if left else ""

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        before, folder, root = look.found["services"], look.found["folder"], look.undo["root"]
        ran = [name for name, how in before.items() if how in {"running", "unhealthy"}]
        rest = [name for name, how in before.items() if how == "stopped"]
        for command, names in ((("up", "-d"), ran), (("up", "--no-start"), rest)):
            if names:
                await docker.act(host, DO, args.project, folder, *command, *names, root=root)


class Restart(ComposeKind):
    """Restart its containers."""

    name, summary, verb, command = "compose.restart", "Restart a compose project", "restart", ("restart",)
    cannot_undo = "a restart is not taken back"

    def diff(self, now: State) -> str:
        """See ComposeKind."""
        return "\n".join(f"- {name}: {how}\n+ {name}: restarted" for name, how in now.services.items() if how != "absent")

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        return await self._up(host, args)


class Pull(ComposeKind):
    """Fetch the images that its file names."""

    name, summary, verb, command = "compose.pull", "Fetch the images of a compose project", "pull the images of", ("pull",)
    dangerous = False
    cannot_undo = "fetched images stay; nothing runs on them before the next up"

    def diff(self, now: State) -> str:
        """See ComposeKind."""
        return "\n".join(f"+ {name}: the newest image of its name" for name in now.services)


class Logs(Project):
    """What is read of its logs."""

    lines: int = Field(100, ge=1, le=10_000, description="Newest lines of each to begin with")
    follow: bool = Field(False, description="Go on with what comes, until it is cancelled")


class ComposeLogs(Kind):
    """Show the logs of a project, and follow them."""

    name, summary, params = "compose.logs", "Show the logs of a compose project", Logs
    changes, looks, dangerous = False, False, False
    cannot_undo = "it only reads"

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"{'follow' if args.follow else 'show'} the logs of the compose project {args.project}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind; nothing is looked at."""
        del host, args
        return Look()

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        del look
        now = await state(host, args)
        if not now.folder:
            raise host.failed(f"there is no compose project {args.project}", next_step="give the folder of its compose file.")
        command = ["logs", "--no-color", f"--tail={args.lines}", *(["-f"] if args.follow else [])]
        if status := await host.live(docker.TOOLS + DO, args.project, now.folder, *command, sudo=now.root):
            raise host.failed(f"exit status {status}", status)
        return ""


KINDS = (Up(), Down(), Restart(), Pull(), ComposeLogs())
