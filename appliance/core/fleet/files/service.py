"""Files to and from nodes, several at one time: each node on its own, a cut waited out and gone on from."""

from __future__ import annotations

import asyncio
import posixpath
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import msgspec

from appliance.core.fleet.files.copy import Copier
from appliance.core.fleet.files.globs import Chosen
from appliance.core.fleet.files.model import Direction, Entry, Outcome, Side, SyncPlan
from appliance.core.fleet.files.places import Places
from appliance.core.fleet.files.plan import compare
from appliance.core.fleet.files.progress import Meter, Pace
from appliance.core.fleet.files.remote import SOON, RemoteSide, opened
from appliance.core.fleet.files.syncing import Syncer
from appliance.core.fleet.files.tree import tree
from appliance.core.fleet.files.view import check_public, reached_by_all
from appliance.core.fleet.model import FleetShell, Reach, RemoteFiles
from appliance.errors import ApplianceError, ConflictError, ShellError, UnreachableError

NODES = 4
"""Nodes that are served at one time by one transfer."""
ATTEMPTS = 5
"""Cuts in a row without a byte's progress after which a node is given up."""
REST = 1.0
"""Seconds before the second attempt; twice as long before each further one."""


@dataclass(frozen=True)
class Sync:
    """What shall be made like what.

    Attributes:
        direction: Which side is changed.
        here: Folder on this machine.
        there: Folder on the nodes.
        wanted: What of it is meant.
        delete: What is only on the side that is changed goes.
        seen: node → digest of the plan whose deletions were confirmed.
    """

    direction: Direction
    here: str
    there: str
    wanted: Chosen = field(default_factory=Chosen)
    delete: bool = False
    seen: dict[str, str] = field(default_factory=dict)


class FleetFiles:
    """Copies.

    Args:
        shell: Reaches the nodes.
        places: What of this machine may be touched.
        rest: Seconds before a second attempt.
        patience: Seconds in which a node's SFTP server must answer.
    """

    def __init__(self, shell: FleetShell, places: Places, rest: float = REST, patience: float = SOON) -> None:
        self.places = places
        self._shell = shell
        self._rest = rest
        self._patience = patience
        self._busy: set[tuple[str, str]] = set()

    def side(self, node: str) -> AbstractAsyncContextManager[RemoteSide]:
        """A node's files. Raises ShellError."""
        return opened(self._shell, node, self._patience)

    def raw(self, node: str) -> AbstractAsyncContextManager[RemoteFiles]:
        """A node's files as SFTP has them."""
        return self._shell.files(node)

    async def put(self, nodes: Sequence[str], source: str, target: str, meter: Meter, rate: float | None) -> list[Outcome]:
        """One file to each of these nodes."""
        pace = Pace(rate)

        async def work(node: str) -> Outcome:
            with self._alone(node, target):
                async with self.side(node) as there:
                    sent, path = await Copier(self.places.side(), there, meter.of(node), pace).one(source, target)
            return Outcome(node, "ok", 1, sent.moved, sent.resumed, sha256=sent.sha256, path=path)

        return await self._each(nodes, work, meter)

    async def get(
        self, nodes: Sequence[str], source: str, target: str, meter: Meter, rate: float | None, *, public: bool = False
    ) -> list[Outcome]:
        """One file of each of these nodes; of several, each into a folder of its node's name.

        Args:
            nodes: Their names.
            source: Path there.
            target: Path here.
            meter: Counts.
            rate: Bytes a second at most.
            public: Only a file that everybody on the node may read.
        """
        pace, here = Pace(rate), self.places.side()

        async def work(node: str) -> Outcome:
            aim = target if len(nodes) == 1 else posixpath.join(target, node, "")
            if len(nodes) > 1:
                await here.make_folder(aim)
            with self._alone("", aim):
                async with self.side(node) as there:
                    real = await reached_by_all(there, source) if public else await there.resolve(source)
                    if (found := await there.stat(real)) is not None:
                        check_public(found.mode, source, public=public)
                    sent, path = await Copier(there, here, meter.of(node), pace).one(
                        real, aim if not aim.endswith("/") else posixpath.join(aim, posixpath.basename(source))
                    )
            return Outcome(node, "ok", 1, sent.moved, sent.resumed, sha256=sent.sha256, path=path)

        return await self._each(nodes, work, meter)

    async def plan(self, node: str, wish: Sync) -> SyncPlan:
        """What a synchronisation would do on one node. Raises ApplianceError."""
        async with self.side(node) as there:
            return (await self._planned(node, wish, there))[0]

    async def plans(self, nodes: Sequence[str], wish: Sync) -> list[SyncPlan]:
        """What a synchronisation would do on each of these nodes. Raises ApplianceError: a plan is whole, or none."""
        slots = asyncio.Semaphore(NODES)

        async def one(node: str) -> SyncPlan:
            async with slots:
                return await self.plan(node, wish)

        return list(await asyncio.gather(*(one(node) for node in nodes)))

    async def _planned(self, node: str, wish: Sync, there: RemoteSide) -> tuple[SyncPlan, dict[str, Entry]]:
        here = self.places.side()
        up = wish.direction is Direction.up
        mine, theirs = await asyncio.gather(
            tree(here, wish.here, wish.wanted, absent=not up), tree(there, wish.there, wish.wanted, absent=up)
        )
        source, target = (mine, theirs) if up else (theirs, mine)
        return compare(node, source, target, delete=wish.delete), source

    async def sync(self, nodes: Sequence[str], wish: Sync, meter: Meter, rate: float | None) -> list[Outcome]:
        """Make folders alike on each of these nodes."""
        pace = Pace(rate)

        async def work(node: str) -> Outcome:
            with self._alone(*((node, wish.there) if wish.direction is Direction.up else ("", wish.here))):
                async with self.side(node) as there:
                    return await self._synced(node, wish, there, meter, pace)

        return await self._each(nodes, work, meter)

    async def _synced(self, node: str, wish: Sync, there: RemoteSide, meter: Meter, pace: Pace) -> Outcome:
        plan, entries = await self._planned(node, wish, there)
        if plan.digest and wish.seen.get(node) != plan.digest:
            raise ConflictError(
                f"{node}: what would be deleted is another list now than the one that was shown; nothing was done.",
                "look at the plan again.",
            )
        count = meter.of(node)
        count.expect(plan.bytes, plan.files)
        here: Side = self.places.side()
        ends: tuple[Side, Side] = (here, there) if wish.direction is Direction.up else (there, here)
        roots = (wish.here, wish.there) if wish.direction is Direction.up else (wish.there, wish.here)
        syncer = Syncer(ends[0], ends[1], roots, count, pace)
        if plan.steps:
            await syncer.carry_out(plan, entries)
        skipped = (*plan.skipped, *syncer.skipped)
        state = "ok" if plan.steps else "unchanged"
        return Outcome(
            node, state, syncer.files, syncer.moved, syncer.resumed, syncer.deleted, path=roots[1], skipped=skipped[:100],
            reason=f"{len(skipped)} names were left alone" if skipped else "",
        )  # fmt: skip

    def _alone(self, node: str, target: str) -> _Alone:
        return _Alone(self._busy, (node, target))

    async def _each(self, nodes: Sequence[str], work: Callable[[str], Awaitable[Outcome]], meter: Meter) -> list[Outcome]:
        slots = asyncio.Semaphore(NODES)

        async def one(node: str) -> Outcome:
            async with slots:
                began = time.monotonic()
                done = await self._tried(node, work, meter)
                return msgspec.structs.replace(done, seconds=round(time.monotonic() - began, 3))

        return list(await asyncio.gather(*(one(node) for node in nodes)))

    async def _tried(self, node: str, work: Callable[[str], Awaitable[Outcome]], meter: Meter) -> Outcome:
        """Do it, and again after a cut; what was there by then goes on. A cut after progress counts as the first."""
        cuts, far = 0, -1
        while True:
            try:
                return await work(node)
            except ShellError as error:
                done = meter.done(node)
                cuts = 1 if done > far else cuts + 1
                far = max(far, done)
                if not (is_cut(error) or self._shell.link(node).reach is not Reach.up) or cuts >= ATTEMPTS:
                    return failed(node, error)
            except ApplianceError as error:
                return failed(node, error)
            await asyncio.sleep(self._rest * 2 ** (cuts - 1))


def is_cut(error: ShellError) -> bool:
    """Whether the link broke, rather than that the node said no."""
    import asyncssh

    broken = (OSError, asyncssh.DisconnectError, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
    return isinstance(error, UnreachableError) or isinstance(error.__cause__, broken)


def failed(node: str, error: ApplianceError) -> Outcome:
    """What a node's error comes to."""
    state = "unreachable" if isinstance(error, UnreachableError) else "failed"
    return Outcome(node, state, reason=error.message, next_step=error.next_step)


class _Alone:
    """One writer for one target at one time."""

    def __init__(self, busy: set[tuple[str, str]], what: tuple[str, str]) -> None:
        self._busy, self._what = busy, what

    def __enter__(self) -> None:
        if self._what in self._busy:
            raise ConflictError(f"{self._what[1]} is written by another transfer.", "wait until it has ended, or cancel it.")
        self._busy.add(self._what)

    def __exit__(self, *_: object) -> None:
        self._busy.discard(self._what)
