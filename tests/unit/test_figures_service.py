"""Numbers of the memory as telemetry."""

from __future__ import annotations

from pathlib import Path

from appliance.core.bus import Bus
from appliance.core.events import HostMetrics, Noted
from appliance.core.memory.model import MemoryStatus, TierStatus
from appliance.core.memory.sync import SyncTotals
from appliance.core.model import Health
from appliance.core.outbox import Outbox
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.core.telemetry.figures import FiguresService
from tests.support import ManualClock


async def test_numbers_are_published_with_their_labels(tmp_path: Path) -> None:
    clock = ManualClock()
    state, bus = LiveState(clock), Bus(Outbox(Store(tmp_path / "s.sqlite"), "pc"))
    queue = bus.subscribe("test", (HostMetrics,))
    service = FiguresService(bus, state, clock)
    await service.publish()
    tier = TierStatus(name="disk", level=2, health=Health.healthy, reason="", hits=3)
    state.put(Section.memory, MemoryStatus(tiers=(tier,), hits=5))
    await service.publish()
    whole, disk = await queue.batch()
    assert isinstance(whole, HostMetrics)
    assert isinstance(disk, HostMetrics)
    assert (whole.tags, whole.metrics["edge_cache_hits"]) == ({}, 5.0)
    assert (disk.tags, disk.metrics["edge_memory_tier_hits_total"]) == ({"tier": "disk"}, 3.0)
    assert "2 events" in (await service.health()).reason


async def test_evictions_and_bytes_that_were_sent_are_noted_once(tmp_path: Path) -> None:
    clock = ManualClock()
    store = Store(tmp_path / "s.sqlite")
    store.open()
    state, bus = LiveState(clock), Bus(Outbox(store, "pc"))
    queue = bus.subscribe("test", (Noted,))
    service = FiguresService(bus, state, clock)
    for evictions, transferred in ((5, 100), (5, 100), (8, 350), (8, 350)):
        tier = TierStatus(name="disk", level=2, health=Health.healthy, reason="", evictions=evictions, size=4096)
        state.put(Section.memory, MemoryStatus(tiers=(tier,)))
        state.put(Section.sync_totals, SyncTotals(transferred=transferred))
        await service.publish()
    found = [(each.event, each.attributes) for each in await queue.batch() if isinstance(each, Noted)]
    assert found == [
        ("memory.evicted", {"tier": "disk", "values": 3, "bytes_held": 4096}), ("memory.transferred", {"bytes": 250}),
    ]  # fmt: skip
    store.close()
