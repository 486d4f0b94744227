"""Who does tasks: what each worker can do, what it has, and whether it lives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from appliance.core.tasks.model import Worker, WorkerState
from appliance.core.tasks.waiting import Bucket
from appliance.core.tasks.wire import Beat, Order, Stop
from appliance.errors import NotFoundError

FRESH = 0.6
"""Share of a lease within which a worker must have given a sign of life to be given more."""
STRAYS = 3
"""Signs of earlier lives after which two processes must have the same name."""
MOST = 200
"""Workers that are followed; silent ones that have nothing go first, the longest silent before the others."""
SESSIONS = 8
"""Lives of a worker that are remembered: what comes from an earlier one is not heard."""


class Outlet(Protocol):
    """Brings orders to workers."""

    async def give(self, orders: Sequence[Order]) -> None:
        """To do these, all of one worker. Raises LinkDownError: they may have reached it all the same."""

    async def stop(self, stop: Stop, *, recall: bool) -> None:
        """To do one no more; with `recall` only where it was not begun. Raises LinkDownError."""

    @property
    def hears(self) -> bool:
        """Whether the workers' signs of life would reach us now."""


@dataclass
class Member:
    """One worker, as the dispatcher follows it."""

    worker: Worker
    outlet: Outlet
    has: set[str] = field(default_factory=set)
    """Tasks."""
    number: int = 0
    """Of its newest sign of life in this session."""
    before: deque[str] = field(default_factory=lambda: deque(maxlen=SESSIONS))
    """Its earlier lives."""
    unkept: bool = False
    """What it can do is not on disk yet."""
    strays: int = 0
    """Signs of life from those."""

    @property
    def most(self) -> int:
        """Tasks that it is given: remote ones have some in reserve, so that none waits for a message."""
        worker = self.worker
        return worker.limit if worker.local else worker.limit + 1 + worker.limit // 2

    def ready(self, now: float, lease_s: float) -> bool:
        """Whether it may be given tasks now."""
        worker = self.worker
        if worker.state is not WorkerState.ready or not self.outlet.hears:
            return False
        return worker.local or (worker.beat is not None and now - worker.beat < FRESH * lease_s)

    def stray(self) -> None:
        """An earlier life gives a sign: the last one of it, or another process that has the same name."""
        self.strays += 1
        self.change(note=self.told)

    @property
    def told(self) -> str:
        """What is wrong with it."""
        return "another process uses this name too: give each worker its own" if self.strays > STRAYS else ""

    def change(self, **changes: object) -> None:
        """Set facts of it."""
        self.worker = msgspec.structs.replace(self.worker, **changes)


class Roster:
    """All workers.

    Args:
        lease_s: Seconds without a sign of life after which a worker counts as silent.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self.members: dict[str, Member] = {}

    def get(self, name: str) -> Member:
        """Raises NotFoundError."""
        if name not in self.members:
            known = ", ".join(sorted(self.members)) or "none"
            raise NotFoundError(f"No worker is called {name!r}.", f"the workers are: {known}.")
        return self.members[name]

    def types(self) -> set[str]:
        """All that anybody can do, or could when it last told."""
        return {each.name for member in self.members.values() for each in member.worker.capabilities}

    def able(self, bucket: Bucket) -> list[Member]:
        """Who may do the tasks of a bucket, whether it is ready or not."""
        kind, wanted = bucket
        return [each for each in self.members.values() if each.worker.can(kind) and wanted in {"", each.worker.name}]

    def choose(self, bucket: Bucket, now: float) -> Member | None:
        """The one with the least to do that may be given one more; None where there is none."""
        free = [each for each in self.able(bucket) if len(each.has) < each.most and each.ready(now, self._lease_s)]
        return min(free, key=_burden, default=None)

    def idle(self, bucket: Bucket, now: float) -> Member | None:
        """One that would begin a task of that bucket at once."""
        free = (each for each in self.able(bucket) if len(each.has) < each.worker.limit)
        return next((each for each in free if each.ready(now, self._lease_s)), None)

    def hear(self, beat: Beat, outlet: Outlet, now: float) -> Member | None:
        """Take a sign of life.

        Returns:
            The worker; None where the sign is to be ignored: of an earlier life, or older than the newest one.
        """
        member = self.members.get(beat.worker)
        if member is not None and member.worker.local:
            member.stray()
            return None
        state = WorkerState.stopping if beat.stopping else WorkerState.ready
        told = {"capabilities": beat.capabilities, "limit": beat.limit, "version": beat.version}
        if member is None:
            member = self.members[beat.worker] = Member(Worker(name=beat.worker), outlet)
        worker = member.worker
        if beat.session in member.before:
            member.stray()
            return None
        if beat.session == worker.session and beat.number <= member.number:
            return None
        if beat.session != worker.session and worker.session:
            member.before.append(worker.session)
        member.unkept |= any(getattr(worker, name) != value for name, value in told.items())
        member.number = beat.number
        member.outlet = outlet
        member.change(
            **told, state=state, session=beat.session, beat=now, running=len(beat.running), load=beat.load,
            note=member.told,
        )  # fmt: skip
        return member

    def silence(self, now: float) -> list[Member]:
        """Mark those that have been silent for longer than a lease; returns who has just become so."""
        fallen = []
        for each in self.members.values():
            worker = each.worker
            if worker.local or worker.state is WorkerState.silent or not each.outlet.hears:
                continue
            if worker.beat is None or now - worker.beat > self._lease_s:
                each.change(state=WorkerState.silent, running=None, note="no sign of life")
                fallen.append(each)
        self._forget()
        return fallen

    def _forget(self) -> None:
        """Those that will hardly come back, where there are too many: names that were used once."""
        if len(self.members) <= MOST:
            return
        gone = [each for each in self.members.values() if each.worker.state is WorkerState.silent and not each.has]
        gone.sort(key=lambda each: each.worker.beat or 0.0)
        for each in gone[: len(self.members) - MOST]:
            del self.members[each.worker.name]

    def shown(self) -> tuple[Worker, ...]:
        """By name, the appliance's own first."""
        told = (msgspec.structs.replace(each.worker, busy=len(each.has)) for each in self.members.values())
        return tuple(sorted(told, key=lambda worker: (not worker.local, worker.name)))


def surplus(members: Iterable[Member]) -> list[Member]:
    """Those that have more than they can work on."""
    return [each for each in members if len(each.has) > each.worker.limit]


def _burden(member: Member) -> tuple[float, float, str]:
    worker = member.worker
    return len(member.has) / max(1, worker.limit), worker.load or 0.0, worker.name
