"""A local disk that fails or is full: it shows, stays shown until a write succeeds, and hides nothing that is there."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from appliance.core.memory.eviction import Room
from appliance.core.memory.listing import Query
from appliance.core.memory.model import Durability
from appliance.core.model import Health
from appliance.core.state import Section
from appliance.errors import DiskFullError, NotFoundError, StoreError, TierFullError
from tests.memory.rig import MIB, Rig, running
from tests.support import wait_for


async def shows(rig: Rig, health: Health) -> None:
    """Wait until the disk is shown so."""
    await wait_for(lambda: rig.shown("disk").health is health, message=f"{health.value}; it is {rig.shown('disk')}")


async def bound(rig: Rig, pages: int | None) -> None:
    """Let the database grow by so many pages, as on a full disk; None for any number."""

    def work(connection: sqlite3.Connection) -> None:
        count = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {2**30 if pages is None else count + pages}")

    await rig.parts.edge.store.write(work)


async def test_a_full_disk_stays_shown_until_a_write_fits(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.memory.set("a", b"x")
        await bound(rig, 1)
        with pytest.raises(DiskFullError):
            await rig.memory.set("b", os.urandom(30_000))
        for _ in range(3):
            await rig.service.show()
            assert (rig.shown("disk").health, (await rig.service.health()).health) == (Health.unhealthy, Health.unhealthy)
        with pytest.raises(StoreError):
            await rig.service._disk.try_again()
        await rig.service.show()
        assert rig.shown("disk").health is Health.unhealthy
        await bound(rig, None)
        await shows(rig, Health.healthy)
        assert "disk healthy" in (await rig.service.health()).reason


async def test_what_is_there_is_listed_while_nothing_more_fits(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.memory.set("a", b"x")
        await bound(rig, 0)
        await rig.memory.set("waits", os.urandom(30_000), durability=Durability.memory)
        await shows(rig, Health.unhealthy)
        assert [each.meta.key for each in (await rig.memory.scan(Query())).entries] == ["a"]
        assert (await rig.memory.stat("a")).meta.size == 1
        assert await rig.memory.namespaces() == [("default", 1, 1)]
        with pytest.raises(DiskFullError):
            await rig.memory.stat("waits")
        with pytest.raises(NotFoundError):
            await rig.memory.stat("nowhere")
        await bound(rig, None)


async def test_a_refusal_at_the_limit_is_shown_until_there_is_room(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, room=Room(MIB))) as rig:
        await rig.memory.set("a", os.urandom(900_000))
        with pytest.raises(TierFullError):
            await rig.memory.set("b", os.urandom(300_000))
        await shows(rig, Health.degraded)
        await rig.memory.set("small", b"x")
        await rig.service.show()
        assert rig.shown("disk").health is Health.degraded
        assert rig.shown("disk").next_step
        await rig.memory.delete("a")
        await shows(rig, Health.healthy)


async def test_a_database_that_cannot_be_read_is_shown(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.memory.set("a", b"x")
        await shows(rig, Health.healthy)
        rig.parts.edge.store.close()
        await shows(rig, Health.unhealthy)
        rig.parts.edge.store.open()
        await shows(rig, Health.healthy)


async def test_a_sweep_that_failed_is_tried_again_soon(tmp_path: Path) -> None:
    """Not only at the next sweep: until then the disk would be shown as failing."""
    async with running(Rig(tmp_path)) as rig:
        await shows(rig, Health.healthy)
        rig.parts.edge.store.close()
        rig.service._disk.failed(StoreError("The store is not open.", "start the appliance."))
        await shows(rig, Health.unhealthy)
        rig.parts.edge.store.open()
        await shows(rig, Health.healthy)


async def test_a_damaged_conflict_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.memory.set("k", b"x")
        row = await rig.parts.edge.row("default", "k")
        assert row is not None

        def damage(connection: sqlite3.Connection) -> None:
            values = ("1", row.entry, "objects", 0.0, b"\0", "both changed")
            sql = "INSERT INTO conflicts (conflict_id, entry, tier, detected, theirs, reason) VALUES (?, ?, ?, ?, ?, ?)"
            connection.execute(sql, values)

        await rig.parts.edge.store.write(damage)
        await wait_for(lambda: rig.state.get(Section.memory).value.conflicts == 1)
        await rig.memory.set("later", b"x")
        await wait_for(lambda: rig.shown("disk").entries == 2)
        assert rig._run is not None
        assert not rig._run.done()
