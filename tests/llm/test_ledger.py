"""The ledger: written before anything leaves, caps that hold across restarts and jumps of the clock."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.ledger import Caps, Leaving, Ledger
from appliance.core.llm.model import Operation, Place, Usage, Wishes
from appliance.core.store import Store
from appliance.errors import StoreError
from tests.llm.rig import endpoint, running, settled
from tests.llm.upstreams import FakeOllama, FakeOpenAi, up
from tests.support import ManualClock

DAY = 86400.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path / "state.db")
    made.open()
    yield made
    made.close()


def leaving(**given: Any) -> Leaving:
    plain = {"who": "a", "endpoint": "far", "place": Place.cloud, "model": "m", "operation": Operation.chat, "why": "w"}
    return Leaving(**{**plain, "bytes": 100, "tokens": 50, "cost": 0.5, **given})


async def test_what_is_set_aside_gives_way_to_what_it_was(store: Store) -> None:
    ledger = Ledger(store, ManualClock(), Caps(), 1000, lambda: "boot")
    number = await ledger.reserve(leaving())
    assert (ledger.spent.requests, ledger.spent.bytes, ledger.spent.tokens, ledger.spent.cost) == (1, 100, 50, 0.5)
    await ledger.settle(number, "answered", Usage(10, 20), 0.25)
    assert (ledger.spent.tokens, ledger.spent.cost) == (30, 0.25)
    second = await ledger.reserve(leaving())
    await ledger.settle(second, "given up", Usage(), None)
    assert ledger.spent.tokens == 80, "nobody told, so what was set aside stays counted"
    newest, oldest = await ledger.entries(10)
    assert (newest.outcome, newest.tokens_in, newest.cost) == ("given up", None, None)
    assert (oldest.outcome, oldest.tokens_in, oldest.tokens_out) == ("answered", 10, 20)
    assert await ledger.entries(10, before=newest.id) == [oldest]


@pytest.mark.parametrize(("caps", "name"), [
    (Caps(bytes=250), "bytes"), (Caps(tokens=120), "tokens"), (Caps(cost=1.2), "cost"),
])  # fmt: skip
async def test_a_cap_holds_and_ends_with_its_day(store: Store, caps: Caps, name: str) -> None:
    clock = ManualClock()
    ledger = Ledger(store, clock, caps, 1000, lambda: "boot")
    await ledger.reserve(leaving())
    clock.move(3600)
    await ledger.reserve(leaving())
    with pytest.raises(LlmError, match=f"cloud_{name}_per_day") as raised:
        await ledger.reserve(leaving())
    assert raised.value.fault is Fault.capped
    assert len(await ledger.entries(10)) == 2, "what was refused is not written"
    clock.move(DAY - 3599)
    await ledger.reserve(leaving())
    with pytest.raises(LlmError):
        await ledger.reserve(leaving())


@pytest.mark.parametrize("jump", [-10 * DAY, -60.0, 3 * DAY, 400 * DAY])
async def test_a_jump_of_the_clock_gives_nothing_back(store: Store, jump: float) -> None:
    clock = ManualClock()
    await Ledger(store, clock, Caps(bytes=150), 1000, lambda: "boot").reserve(leaving())
    clock.wall_now += jump
    clock.move(5)
    for ledger in (Ledger(store, clock, Caps(bytes=150), 1000, lambda: "boot") for _ in range(2)):  # a restart, and another
        with pytest.raises(LlmError):
            await ledger.reserve(leaving())
    clock.move(DAY)
    await Ledger(store, clock, Caps(bytes=150), 1000, lambda: "boot").reserve(leaving())


async def test_a_boot_with_a_clock_that_stands_in_the_past_gives_nothing_back(store: Store) -> None:
    clock = ManualClock()
    await Ledger(store, clock, Caps(bytes=150), 1000, lambda: "one").reserve(leaving())
    late = ManualClock(wall=0.0)
    late.monotonic_now = 3.0
    with pytest.raises(LlmError):
        await Ledger(store, late, Caps(bytes=150), 1000, lambda: "two").reserve(leaving())


async def test_old_entries_make_room_but_never_those_of_the_day(store: Store) -> None:
    clock = ManualClock()
    ledger = Ledger(store, clock, Caps(), 10, lambda: "boot")
    for _ in range(100):
        await ledger.reserve(leaving())
    assert len(await ledger.entries(1000)) == 100
    clock.move(2 * DAY)
    for _ in range(100):
        await ledger.reserve(leaving())
    assert len(await ledger.entries(1000)) == 100


async def test_a_cap_stops_the_cloud_and_not_the_edge(tmp_path: Path) -> None:
    edge, cloud = FakeOllama(), FakeOpenAi()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, strategy="cloud-first", cloud_tokens_per_day=400) as rig:
            assert (await rig.ask()).endpoint == "far"
            await settled(rig)
            assert (await rig.ask(options={"num_predict": 2000})).endpoint == "home", "it would pass the cap"
            with pytest.raises(LlmError) as raised:
                await rig.ask(options={"num_predict": 2000}, wishes=Wishes(place=Place.cloud))
            assert (raised.value.fault, raised.value.status) == (Fault.capped, 429)
            assert len(cloud.asked) == 1
        async with running(tmp_path, places, strategy="cloud-first", cloud_tokens_per_day=31) as rig:
            assert "cloud_tokens_per_day" in (await rig.gateway.ledger.refresh() and rig.gateway.ledger.capped)
            assert (await rig.ask()).endpoint == "home"


async def test_what_cannot_be_written_down_does_not_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edge, cloud = FakeOllama(), FakeOpenAi()
    async with up(edge, cloud):
        places = {"home": endpoint(edge, "edge"), "far": endpoint(cloud, "cloud")}
        async with running(tmp_path, places, strategy="cloud-first") as rig:

            async def full(_: object) -> None:
                raise StoreError("No room.", "free space.")

            monkeypatch.setattr(rig.store, "write", full)
            answer = await rig.ask()
            assert answer.endpoint == "home"
            assert "nothing leaves the house" in answer.why
            assert cloud.asked == []


async def test_the_sums_are_those_of_the_entries_whatever_happened(store: Store) -> None:
    clock, chance = ManualClock(), random.Random(7)
    ledger = Ledger(store, clock, Caps(), 1000, lambda: "boot")
    numbers: list[int] = []
    for step in range(90):
        clock.move(chance.choice((0.0, 1.0, 59.0, 700.0, 9000.0)))
        wanted = leaving()
        numbers.append(await ledger.reserve(msgspec.structs.replace(wanted, endpoint=chance.choice("abc"))))
        number = chance.choice(numbers[-20:])
        if step % 3 == 0:
            await ledger.settle(number, "answered", Usage(chance.randrange(50), 7), chance.choice((None, 0.25)))
        elif step % 7 == 0:
            await ledger.unsent(number)
        if step % 40 == 39:  # another connection adds them up anew
            store.close()
            store.open()
    spent = await ledger.refresh()
    sql = (
        "SELECT TOTAL(outcome != 'not sent'), TOTAL(bytes), TOTAL(counted), TOTAL(charged) FROM llm_ledger, llm_clock"
        " WHERE llm_ledger.tick > llm_clock.tick - 86400"
    )
    count, size, tokens, cost = await store.read(lambda connection: connection.execute(sql).fetchone())
    assert (spent.requests, spent.bytes, spent.tokens) == (count, size, tokens)
    assert spent.cost == pytest.approx(cost)
    assert sum(each.bytes for each in spent.to) == size
    assert 0 < count < 90


async def test_a_full_day_makes_no_entry_dear(store: Store) -> None:
    ledger = Ledger(store, ManualClock(), Caps(bytes=10**9), 1000, lambda: "boot")
    number = await ledger.reserve(leaving())
    names = "time, tick, who, endpoint, place, model, operation, why, bytes, outcome, counted, charged"
    sql = f"INSERT INTO llm_ledger ({names}) SELECT {names} FROM llm_ledger WHERE id = {number}"
    await store.write(lambda connection: connection.executemany(sql, [()] * 5000).rowcount)
    store.close()
    store.open()
    assert (await ledger.refresh()).requests == 5001
    steps = [0]

    def count() -> int:
        steps[0] += 10
        return 0

    await store.write(lambda connection: connection.set_progress_handler(count, 10))
    await ledger.settle(await ledger.reserve(leaving()), "answered", Usage(1, 1), 0.5)
    assert 0 < steps[0] < 5000, "steps of the database's machine, which cannot look at each entry for so few"
    assert ledger.spent.requests == 5002
