"""Actions on files of the nodes: look, copy to, copy from, make folders alike."""

from __future__ import annotations

import asyncio
import functools
import posixpath
from collections.abc import Awaitable, Callable, Sequence

from pydantic import Field

from appliance.core.actions import Action, Invocation, Params
from appliance.core.fleet.files.globs import chosen
from appliance.core.fleet.files.model import Direction, Outcome, SyncPlan
from appliance.core.fleet.files.places import Places
from appliance.core.fleet.files.progress import Meter
from appliance.core.fleet.files.service import FleetFiles, Sync
from appliance.core.fleet.files.view import LARGEST, View, check_public, listed, reached_by_all, view
from appliance.core.fleet.model import FileInfo, Inventory
from appliance.core.jobs import JobHandle, Jobs
from appliance.core.model import Actor, JobStatus, Role
from appliance.errors import InvalidArgumentsError

LONGEST = 4096
"""Characters of a path (PATH_MAX)."""
PLANNED = 60.0
"""Seconds in which two folders must be read for a plan to be shown."""
OK = frozenset({"ok", "unchanged"})
Work = Callable[[Meter], Awaitable[list[Outcome]]]


class There(Params):
    """A path on one node."""

    node: str = Field(min_length=1, max_length=64, description="Name of the node")
    path: str = Field("/", min_length=1, max_length=LONGEST, description="Path there")


class Reading(There):
    """A part of a text on a node."""

    offset: int = Field(0, ge=0, le=1 << 60, description="Byte to begin with; the last ones where it is 0 and tail is given")
    size: int = Field(64 * 1024, ge=1, le=LARGEST, description="Bytes at most")
    tail: bool = Field(False, description="The end of it rather than its beginning")


class Copying(Params):
    """One file, and where it goes."""

    nodes: list[str] = Field(min_length=1, max_length=1000, description='Nodes: names, "group:NAME", "all", "!NAME"')
    source: str = Field(min_length=1, max_length=LONGEST, description="File that is copied")
    target: str = Field(min_length=1, max_length=LONGEST, description="Where it goes: a name, or a folder that is there")
    limit_kib: float | None = Field(None, ge=1, le=1 << 30, description="KiB a second at most, all nodes together")


class Folders(Params):
    """Two folders, and what of them."""

    nodes: list[str] = Field(min_length=1, max_length=1000, description='Nodes: names, "group:NAME", "all", "!NAME"')
    here: str = Field(min_length=1, max_length=LONGEST, description="Folder on this machine")
    there: str = Field(min_length=1, max_length=LONGEST, description="Folder on the nodes")
    direction: Direction = Field(Direction.up, description='"up": the nodes are made like here; "down": here like the node')
    include: list[str] = Field([], max_length=100, description='Only files like these: "*.conf", "site/**"')
    exclude: list[str] = Field([], max_length=100, description="Nothing like these; it is not deleted either")


class Syncing(Folders):
    """Two folders that are made alike."""

    delete: bool = Field(False, description="Delete what is only on the side that is changed; needs a plan that was seen")
    plan: list[str] = Field(
        [], max_length=1000, description='Plans that were seen, as "NODE=DIGEST"; what they delete is deleted'
    )
    limit_kib: float | None = Field(None, ge=1, le=1 << 30, description="KiB a second at most, all nodes together")


class Planning(Folders):
    """Two folders that are compared."""

    delete: bool = Field(False, description="Also what would be deleted")


def file_actions(files: FleetFiles, inventory: Inventory, jobs: Jobs) -> list[Action]:
    """All of them.

    Args:
        files: Copies.
        inventory: Which nodes there are.
        jobs: Where copies run.
    """
    desk = Desk(files, inventory, jobs)
    nodes = functools.partial(Action, timeout=PLANNED, positional=("node", "path"))
    copies = functools.partial(Action, positional=("source", "target"))
    folders = functools.partial(Action, role=Role.admin, positional=("here", "there"))
    return [
        nodes("fleet.files", "List a folder of a node", desk.folder, params=There, query=True),
        nodes("fleet.read-file", "Show a part of a text on a node", desk.read, params=Reading),
        copies("fleet.put", "Copy a file to nodes", desk.put, params=Copying, role=Role.admin),
        copies("fleet.get", "Copy a file of nodes to this machine", desk.get, params=Copying),
        folders("fleet.sync-plan", "Show what making folders alike would do", desk.plan, params=Planning, query=True,
            timeout=PLANNED),
        folders("fleet.sync", "Make folders alike, on nodes or here", desk.sync, params=Syncing),
    ]  # fmt: skip


class Desk:
    """What the actions do.

    Args:
        files: Copies.
        inventory: Which nodes there are.
        jobs: Where copies run.
    """

    def __init__(self, files: FleetFiles, inventory: Inventory, jobs: Jobs) -> None:
        self._files = files
        self._inventory = inventory
        self._jobs = jobs

    @property
    def _places(self) -> Places:
        return self._files.places

    def _nodes(self, selector: Sequence[str]) -> list[str]:
        return [node.name for node in self._inventory.select(selector)]

    async def folder(self, call: Invocation, params: There) -> list[FileInfo]:
        """List a folder."""
        self._inventory.get(params.node)
        path = await self._of_all(params) if call.actor.role < Role.admin else params.path
        async with self._files.raw(params.node) as files:
            if call.actor.role < Role.admin:
                check_public((await files.stat(path)).mode, path, public=True)
            return await listed(files, path)

    async def read(self, call: Invocation, params: Reading) -> View:
        """A part of a text."""
        self._inventory.get(params.node)
        public = call.actor.role < Role.admin
        path = await self._of_all(params) if public else params.path
        async with self._files.raw(params.node) as files:
            return await view(files, path, params.offset, params.size, tail=params.tail, public=public)

    async def _of_all(self, params: There) -> str:
        async with self._files.side(params.node) as side:
            return await reached_by_all(side, params.path)

    async def put(self, call: Invocation, params: Copying) -> JobStatus:
        """To nodes."""
        nodes, source = self._nodes(params.nodes), await self._here(params.source, call.actor)
        work = functools.partial(self._files.put, nodes, source, params.target, rate=_rate(params.limit_kib))
        return await self._submit(f"put {_name(source)} to {_on(nodes)}", call.actor, lambda meter: work(meter=meter))

    async def get(self, call: Invocation, params: Copying) -> JobStatus:
        """From nodes."""
        nodes, target = self._nodes(params.nodes), await self._here(params.target, call.actor, write=True)
        public = call.actor.role < Role.admin
        work = functools.partial(self._files.get, nodes, params.source, target, rate=_rate(params.limit_kib), public=public)
        return await self._submit(f"get {_name(params.source)} of {_on(nodes)}", call.actor, lambda meter: work(meter=meter))

    async def plan(self, call: Invocation, params: Planning) -> list[SyncPlan]:
        """What a synchronisation would do."""
        nodes, wish = await self._wish(call.actor, params)
        return await self._files.plans(nodes, wish)

    async def sync(self, call: Invocation, params: Syncing) -> JobStatus:
        """Make folders alike."""
        seen = dict(text.partition("=")[::2] for text in params.plan)
        nodes, wish = await self._wish(call.actor, params, seen)
        if wish.delete and not seen:
            raise InvalidArgumentsError(
                "Nothing is deleted that was not shown before.",
                'look at fleet.sync-plan with delete, and give what it shows as plan=["NODE=DIGEST"].',
            )
        work = functools.partial(self._files.sync, nodes, wish, rate=_rate(params.limit_kib))
        return await self._submit(f"sync {_name(params.here)} with {_on(nodes)}", call.actor, lambda meter: work(meter=meter))

    async def _wish(
        self, actor: Actor, params: Planning | Syncing, seen: dict[str, str] | None = None
    ) -> tuple[list[str], Sync]:
        nodes = self._nodes(params.nodes)
        down = params.direction is Direction.down
        if down and len(nodes) != 1:
            raise InvalidArgumentsError("A folder here is made like that of one node.", "name one node.")
        here = await self._here(params.here, actor, write=down)
        wanted = chosen(params.include, params.exclude)
        return nodes, Sync(params.direction, here.rstrip("/") or "/", params.there, wanted, params.delete, seen or {})

    async def _here(self, path: str, actor: Actor, *, write: bool = False) -> str:
        look = self._places.to_write if write else self._places.to_read
        return await asyncio.to_thread(look, path, actor)

    async def _submit(self, name: str, actor: Actor, work: Work) -> JobStatus:
        async def job(handle: JobHandle) -> list[Outcome]:
            outcomes = await work(Meter(handle.report))
            handle.report(None, told(outcomes))
            if bad := [each for each in outcomes if each.state not in OK]:
                handle.fail("; ".join(f"{each.node}: {each.reason}" for each in bad)[:2000])
            return outcomes

        return await self._jobs.submit(name, actor.name, job)


def told(outcomes: Sequence[Outcome]) -> str:
    """What came of it, in a line."""
    good = [each for each in outcomes if each.state in OK]
    return f"{len(good)} of {len(outcomes)} nodes, {sum(each.files for each in good)} files"


def _rate(limit_kib: float | None) -> float | None:
    return None if limit_kib is None else limit_kib * 1024


def _name(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))[:60] or path[:60]


def _on(nodes: Sequence[str]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
