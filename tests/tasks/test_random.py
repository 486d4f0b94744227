"""Anything in any order: workers on paper that begin, end, forget, die, repeat themselves and lie about old leases."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from appliance.core.tasks.model import TaskState, Urgency
from appliance.core.tasks.wire import Order
from appliance.errors import ConflictError
from tests.support import ManualClock
from tests.tasks.rig import Paper, Rig, running
from tests.tasks.test_dispatcher import step

STEPS = 250


class Chaos:
    """One run.

    Args:
        rig: With a service that is moved by hand.
        clock: Its clock.
        chance: What happens.
    """

    def __init__(self, rig: Rig, clock: ManualClock, chance: random.Random) -> None:
        self.rig, self.clock, self.chance = rig, clock, chance
        self.papers = [Paper(name, limit=chance.randint(1, 4)) for name in ("one", "two", "three")]
        self.submitted: list[str] = []
        self.counted: dict[str, int] = {}
        """Results that were taken as the completion of a task."""
        self.cancelled: set[str] = set()
        self.lives = 0

    async def go(self) -> None:
        """One thing."""
        paper = self.chance.choice(self.papers)
        act = self.chance.choice(
            [self.submit, self.submit, self.beat, self.beat, self.begin, self.begin, self.end, self.end, self.end, self.cancel,
             self.die, self.give_back, self.wait]
        )  # fmt: skip
        await act(paper)
        await step(self.rig)
        self.check()

    async def submit(self, _: Paper) -> None:
        if self.rig.desk.roster.types():
            task = await self.rig.submit(priority=self.chance.choice(list(Urgency)), attempts=100)
            self.submitted.append(task.task_id)

    async def beat(self, paper: Paper) -> None:
        mine = [each for each in paper.orders if each.session == paper.session]
        told = mine if self.chance.random() < 0.8 else self.chance.sample(mine, len(mine) // 2)
        await self.rig.service.dispatcher.hear(paper.beat(*told), paper)

    async def begin(self, paper: Paper) -> None:
        if paper.orders:
            await self.rig.service.dispatcher.begun(paper.begun(self.any_of(paper)))

    async def end(self, paper: Paper) -> None:
        if not paper.orders:
            return
        order = self.any_of(paper)
        good = self.chance.random() < 0.7
        told = paper.result(order, result=order.lease) if good else paper.result(order, "failed", error="no")
        for _ in range(self.chance.choice((1, 1, 2))):  # some say it twice
            if await self.rig.service.dispatcher.ended(told) and good:
                self.counted[order.task_id] = self.counted.get(order.task_id, 0) + 1

    async def cancel(self, _: Paper) -> None:
        if self.submitted:
            wanted = self.chance.choice(self.submitted)
            try:
                await self.rig.service.dispatcher.cancel(wanted, "anna")
            except ConflictError:
                return
            self.cancelled.add(wanted)

    async def die(self, paper: Paper) -> None:
        if self.chance.random() < 0.3:
            self.lives += 1
            paper.session = f"life {self.lives}"

    async def give_back(self, paper: Paper) -> None:
        if paper.orders:
            await self.rig.service.dispatcher.returned(paper.begun(self.any_of(paper)))

    async def wait(self, _: Paper) -> None:
        self.clock.move(self.chance.choice((0.1, 5.0, 15.0, 30.0)))

    def any_of(self, paper: Paper) -> Order:
        """One of its orders, new or old."""
        return self.chance.choice(paper.orders[-4:] if self.chance.random() < 0.8 else paper.orders)

    def check(self) -> None:
        """What holds at every moment."""
        desk = self.rig.desk
        flying = {name for name, entry in desk.live.items() if entry.in_flight}
        assert flying == set(desk.flying)
        waiting = {name for name in desk.live if name in desk.waiting}
        assert not waiting & flying
        later = {name for _, name in desk.later}
        assert set(desk.live) <= waiting | flying | later
        assert not self.cancelled & set(desk.live)
        for name, member in desk.roster.members.items():
            assert member.has == {each for each in flying if desk.live[each].task.worker == name}
        assert sum(desk.waiting.depths().values()) == len(desk.waiting)


@pytest.mark.parametrize("seed", range(8))
async def test_each_task_ends_once_whatever_workers_say(tmp_path: Path, seed: int) -> None:
    clock, chance = ManualClock(), random.Random(seed)
    async with running(tmp_path, run=False, clock=clock, keep=5000) as rig:
        chaos = Chaos(rig, clock, chance)
        for _ in range(STEPS):
            await chaos.go()
        while rig.desk.live:  # all are well from now on
            for paper in chaos.papers:
                await chaos.rig.service.dispatcher.hear(paper.beat(*paper.orders), paper)
                for order in paper.orders[-20:]:
                    await rig.service.dispatcher.begun(paper.begun(order))
                    if await rig.service.dispatcher.ended(paper.result(order)):
                        chaos.counted[order.task_id] = chaos.counted.get(order.task_id, 0) + 1
            clock.move(3.0)
            await step(rig)
            chaos.check()
        ends = {each.task_id: each.state for each in await rig.desk.book.ended(5000)}
        assert set(ends) == set(chaos.submitted)
        assert {name for name, state in ends.items() if state is TaskState.cancelled} == chaos.cancelled
        completed = {name for name, state in ends.items() if state is TaskState.completed}
        assert completed == set(chaos.counted)
        assert set(chaos.counted.values()) <= {1}
        assert not rig.desk.flying
        assert not len(rig.desk.waiting)
