"""Random programs: whatever fails, nothing durable is lost, the order of each topic holds, and the counts add up."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.core.streams.model import Priority
from appliance.core.streams.sources import KAFKA
from tests.streams.outbox_rig import KINDS, TOPICS, Rig

EXAMPLES = int(os.environ.get("PRIME_SPARK_EXAMPLES", "10"))
STEP = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(KINDS), st.integers(1, 40)),
    st.tuples(st.sampled_from(("down", "up", "half", "spill", "restart", "crash", "pause", "resume", "breathe", "retry"))),
)
DURABLE = ("health", "note", "result")


class Program:
    """Runs steps, and remembers what was put in."""

    def __init__(self, home: Path) -> None:
        self.rig = Rig(home)
        self.put: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.lost: set[int] = set()
        """Telemetry that was in RAM alone when the appliance was killed, at most."""

    async def step(self, name: str, *args: object) -> None:
        await getattr(self, name)(*args)

    async def put_in(self, kind: str, count: int) -> None:
        first = self.put[kind]
        self.put[kind] += count
        await self.rig.put(kind, *range(first, first + count))

    async def down(self) -> None:
        self.rig.broker.half = False
        self.rig.down()

    async def half(self) -> None:
        self.rig.broker.half = True
        self.rig.down()

    async def up(self) -> None:
        self.rig.up()

    async def spill(self) -> None:
        self.rig.clock.move(61)
        await self.rig.outbox._keeper.round()

    async def breathe(self) -> None:
        await asyncio.sleep(0.005)

    async def retry(self) -> None:
        self.rig.clock.move(60)
        self.rig.outbox._wake()
        await asyncio.sleep(0.002)

    async def pause(self) -> None:
        await self.rig.outbox.pause()

    async def resume(self) -> None:
        await self.rig.outbox.resume()

    async def restart(self) -> None:
        await self.rig.stop()
        await self.begin()

    async def crash(self) -> None:
        await self.rig.halt()
        spilled = await self.rig.store.read(lambda c: c.execute("SELECT coalesce(sum(messages), 0) FROM blocks").fetchone()[0])
        in_memory = sum(self.rig.outbox._ring.in_memory(each) for each in self.rig.outbox._spill.totals)
        sent = set(self.rig.broker.numbers(TOPICS["telemetry"]))
        missing = [number for number in range(self.put["telemetry"]) if number not in sent and number not in self.lost]
        assert len(missing) <= spilled + in_memory
        self.lost |= set(missing[max(0, len(missing) - in_memory) :]) if in_memory else set()
        await self.rig.crash()
        await self.begin()

    async def begin(self) -> None:
        await self.rig.open()
        self.rig.outbox.link(self.rig.broker.up)
        self.rig.run()

    def check(self) -> None:
        for kind in KINDS:
            got = self.rig.broker.numbers(TOPICS[kind])
            assert got == sorted(got), kind
            if kind in DURABLE:
                assert got == list(range(self.put[kind])), kind
            else:
                assert set(range(self.put[kind])) - set(got) <= self.lost


@given(st.lists(STEP, max_size=20))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_is_lost_and_the_order_holds(steps: list[tuple[object, ...]]) -> None:
    async def run(home: Path) -> None:
        program = Program(home)
        await program.begin()
        try:
            for name, *args in steps:
                await program.step("put_in" if name == "put" else str(name), *args)
            program.rig.up()
            await program.resume()
            status = await program.rig.drained()
            program.check()
            assert (status.dropped, status.dead, status.quarantined, status.waiting) == (0, 0, 0, 0)
        finally:
            await program.rig.stop()

    with tempfile.TemporaryDirectory() as home:
        asyncio.run(run(Path(home)))


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 30), st.integers(0, 20_000)), max_size=20))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_counts_add_up_at_every_bound(puts: list[tuple[str, int, int]]) -> None:
    """Down and paused, with small bounds: all that was put in waits or is counted as given up, the lowest class first."""

    async def run(home: Path) -> None:
        rig = Rig(home, memory_mib=1, disk_mib=1)
        rig.broker.up = False
        await rig.open()
        rig.run()
        rig.outbox.link(False)
        await rig.outbox.pause()
        number = 0
        for kind, count, size in puts:
            for _ in range(count):
                before = rig.journal.dropped_of(KAFKA)
                await rig.put(kind, number, size=size)
                await lowest_first(rig, before)
                await rig.outbox.room()
                number += 1
            rig.clock.move(61)
            await rig.outbox._keeper.round()
            status = await rig.outbox.status()
            assert status.waiting + status.dropped == number
            assert status.bytes <= 2.1 * 1024 * 1024
        rig.up()
        await rig.outbox.resume()
        status = await rig.drained()
        assert status.sent + status.dropped == number
        assert len({each.id for each in rig.broker.stored}) == status.sent
        await rig.stop()

    with tempfile.TemporaryDirectory() as home:
        asyncio.run(run(Path(home)))


async def lowest_first(rig: Rig, before: dict[Priority, int]) -> None:
    """Where a class of the journal lost events since then, nothing of a lower one is left. Nothing is under way."""
    backlog, now = await rig.journal.backlog(KAFKA), rig.journal.dropped_of(KAFKA)
    for each in Priority:
        if now[each] > before[each]:
            assert not any(backlog[other].events for other in Priority if other > each), (each, backlog)
