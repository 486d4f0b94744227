"""The outbox with bad luck: refused messages, bounds, a full disk, damaged files, clocks that jump."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from appliance.core.model import Health
from appliance.core.streams import keeper, sender
from appliance.core.streams.ages import HOLD
from appliance.core.streams.encode import unpack
from appliance.core.streams.model import DeadLetter, Priority
from appliance.errors import CorruptRecordError, NotFoundError, StreamError
from tests.streams.outbox_rig import Rig, event, running
from tests.streams.test_outbox import blocks
from tests.support import wait_for

HOUR = 3600.0


async def spilled(rig: Rig, count: int) -> None:
    """Let the ring go to disk."""
    rig.clock.move(keeper.LINGER + 1)
    await wait_for(lambda: blocks(rig) == count, message=f"{count} on disk")


async def cleaned(rig: Rig) -> None:
    """Let the keeper look at ages and bounds."""
    rig.clock.move(keeper.CLEAN + 1)
    seen = rig.outbox._keeper._cleaned_at
    await wait_for(lambda: rig.outbox._keeper._cleaned_at > seen)
    await rig.outbox._keeper.round()


async def test_refused_messages_are_dead_letters_and_hold_up_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, dead_letters=5)
    async with running(rig):
        rig.broker.refuse = lambda each: b'"n":7' in each.value
        await rig.put("telemetry", *range(10))
        await rig.put("note", *range(10))
        status = await rig.drained()
        assert (status.sent, status.dead) == (18, 2)
        first, second = await rig.outbox.letters.list()
        assert {first.topic, second.topic} == {"edge.telemetry", "analytics.events"}
        assert (first.origin, first.reason, first.key, first.body) == ("outbox", "too large", "pc", "")
        assert '"n":7' in (await rig.outbox.letters.get(first.letter_id)).body
        await rig.outbox.letters.retry(first.letter_id)
        await wait_for(lambda: rig.broker.calls and not any(rig.outbox.letters.ready(each) for each in Priority))
        assert (await rig.outbox.status()).dead == 2  # refused once more
    async with running(rig):
        await rig.outbox.letters.retry(first.letter_id)
        rig.broker.refuse = lambda _: False
        await rig.outbox.letters.retry(second.letter_id)

        async def gone() -> bool:
            letters = [each.letter_id for each in await rig.outbox.letters.list()]
            return second.letter_id not in letters

        await wait_for(gone)
        assert sorted(each.topic for each in rig.broker.stored)[:10] == ["analytics.events"] * 10
        for each in await rig.outbox.letters.list():
            await rig.outbox.letters.discard(each.letter_id)
        with pytest.raises(NotFoundError):
            await rig.outbox.letters.get(first.letter_id)


async def test_letters_of_others_are_bounded_and_never_replayed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, dead_letters=5)
    async with running(rig):
        for number in range(8):
            letter = DeadLetter(
                letter_id=str(number), time=1.0, origin="commands", topic="cloud.commands", key="k", reason="unsigned", size=3,
                partition=1, offset=number,
            )  # fmt: skip
            await rig.outbox.letters.add(letter, b"\xff{}")
        kept = await rig.outbox.letters.list()
        assert [each.letter_id for each in kept] == ["7", "6", "5", "4", "3"]
        assert (rig.outbox.letters.count, rig.outbox.letters.dropped) == (5, 3)
        assert (await rig.outbox.letters.get("7")).body == "\\xff{}"
        with pytest.raises(StreamError, match="replay"):
            await rig.outbox.letters.retry("7")


async def test_a_replay_sends_the_events_of_a_time_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        began = rig.clock.wall()
        for number in range(30):
            await rig.put("note", number)
            await rig.put("result", number)
            rig.clock.move(1)
        await rig.drained()
        rig.broker.up = False
        with pytest.raises(StreamError, match=r"edge\.telemetry"):
            await rig.outbox.replay(0, began, ["edge.telemetry"])
        assert await rig.outbox.replay(began + 10, began + 20, ["analytics.events"]) == 10
        assert (await rig.outbox.status()).classes[1].waiting == 10
    rig.broker.up = True
    async with running(rig):
        await rig.drained()
        again = rig.broker.stored[60:]
        assert [each.id for each in again] == [each.id for each in rig.broker.stored if each.topic == "analytics.events"][10:20]


async def test_a_full_ring_gives_up_the_oldest_of_the_lowest_class_where_the_disk_is_full(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, memory_mib=1)) as rig:
        rig.down()
        await pages(rig, 1)
        for number in range(40):
            await rig.put("telemetry", number, size=40_000)
            await rig.outbox._keeper.round()
            await rig.outbox.room()
        report = await rig.outbox.health()
        assert report.health is Health.degraded
        assert "streams.sqlite" in report.reason
        assert report.next_step
        status = await rig.outbox.status()
        assert status.dropped > 0
        assert status.waiting + status.dropped == 40
        await pages(rig, None)
        rig.clock.move(61)
        await wait_for(lambda: rig.outbox._keeper.error is None)
        rig.up()
        status = await rig.drained()
        assert rig.broker.numbers("edge.telemetry") == list(range(status.dropped, 40))
        assert status.classes[3].dropped == status.dropped
    async with running(rig):
        assert (await rig.outbox.status()).dropped == status.dropped


async def pages(rig: Rig, more: int | None) -> None:
    """Let the file grow by so many pages, as on a full disk; None for any number."""

    def work(connection: sqlite3.Connection) -> None:
        count = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {2**30 if more is None else count + more}")

    await rig.store.write(work)


async def test_the_bound_on_disk_costs_the_lowest_class_its_oldest(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, disk_mib=1)) as rig:
        rig.down()
        await rig.put("health", *range(5))
        for number in range(8):
            await rig.put("telemetry", *range(number * 10, number * 10 + 10), size=40_000)
            rig.clock.move(61)
            await wait_for(lambda number=number: blocks(rig) + rig.outbox._spill.dropped[Priority.low] == number * 10 + 10)  # type: ignore[misc]
            await rig.outbox._keeper.round()
        status = await rig.outbox.status()
        assert status.bytes <= status.byte_limit
        dropped = status.classes[3].dropped
        assert 20 <= dropped < 80
        assert status.dropped == dropped
        assert (await rig.outbox.health()).health is Health.degraded
        rig.up()
        await rig.drained()
        got = rig.broker.numbers("edge.telemetry")
        assert len(got) == 80 - dropped
        assert got == sorted(got)
        assert got[-30:] == list(range(50, 80))  # the oldest went, but for a block that was under way at that moment
        assert rig.broker.numbers("system.health") == list(range(5))


async def test_the_journals_bound_costs_the_lowest_class_its_oldest(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.capacity = 100
    async with running(rig):
        await rig.put("health", *range(10))
        await rig.drained()
        rig.down()
        for number in range(60):
            await rig.put("note", number)
            await rig.put("result", number)
        status = await rig.outbox.status()
        assert [each.dropped for each in status.classes] == [0, 0, 20, 0]  # those of health went first: they are with Kafka
        rig.up()
        await rig.drained()
        assert rig.broker.numbers("analytics.events") == list(range(60))
        assert rig.broker.numbers("edge.ai.inference") == list(range(20, 60))


async def test_the_journal_is_bounded_in_bytes(tmp_path: Path) -> None:
    async with running(Rig(tmp_path, disk_mib=1)) as rig:
        rig.down()
        await rig.put("note", *range(20), size=40_000)
        await rig.put("result", *range(20), size=40_000)
        assert rig.journal.bytes <= 1024 * 1024 * 1.02
        status = await rig.outbox.status()
        assert status.waiting + status.dropped == 40
        assert (status.classes[1].dropped, status.classes[2].dropped > 0) == (0, True)


async def test_what_waits_too_long_is_given_up(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_age_hours=10)
    async with running(rig):
        rig.down()
        await rig.put("telemetry", *range(10))
        await rig.put("note", *range(10))
        await spilled(rig, 10)
        rig.clock.move(9 * HOUR)
        await rig.put("note", 10)
        await rig.put("telemetry", 10)
        await spilled(rig, 11)
        await cleaned(rig)
        assert (await rig.outbox.status()).dropped == 0
        rig.clock.move(HOUR)
        await cleaned(rig)
        status = await rig.outbox.status()
        assert [each.dropped for each in status.classes] == [0, 10, 0, 10]
        assert status.waiting == 2


@pytest.mark.parametrize("days", [400, -400])
async def test_a_stepped_clock_ages_nothing(tmp_path: Path, days: int) -> None:
    rig = Rig(tmp_path, max_age_hours=10)
    async with running(rig):
        rig.down()
        await rig.put("telemetry", *range(10))
        await rig.put("note", *range(10))
        await spilled(rig, 10)
        await cleaned(rig)
        rig.clock.wall_now += days * 86400
        for _ in range(5):
            await cleaned(rig)
        rig.clock.move(HOLD)  # and it is believed
        await cleaned(rig)
        assert (await rig.outbox.status()).dropped == 0
        rig.clock.move(11 * HOUR)
        await cleaned(rig)
        assert (await rig.outbox.status()).dropped == 20
    await rig.open()
    await rig.stop()


async def test_a_start_in_a_far_year_gives_up_nothing_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_age_hours=10)
    rig.broker.up = False
    async with running(rig):
        await rig.put("telemetry", *range(10))
        await rig.put("note", *range(10))
    rig.clock.wall_now += 40 * 365 * 86400
    async with running(rig):
        for _ in range(3):
            await cleaned(rig)
        assert (await rig.outbox.status()).dropped == 0
        rig.clock.wall_now -= 40 * 365 * 86400  # the network told the time
        await cleaned(rig)
        rig.clock.move(HOLD)
        await cleaned(rig)
        assert (await rig.outbox.status()).dropped == 0


async def test_a_damaged_block_is_put_aside_and_the_others_go_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        rig.down()
        for block in range(3):
            await rig.put("telemetry", *range(block * 10, block * 10 + 10))
            await spilled(rig, block * 10 + 10)
    await damage_block(rig, 11)
    async with running(rig):
        rig.up()
        status = await rig.drained()
        assert rig.broker.numbers("edge.telemetry") == [*range(10), *range(20, 30)]
        assert (status.quarantined, status.dropped) == (10, 0)
        kept = await rig.store.read(lambda c: c.execute("SELECT messages, reason FROM quarantine").fetchall())
        assert kept == [(10, "Its checksum is wrong.")]
    async with running(rig):
        assert (await rig.outbox.status()).quarantined == 10


async def damage_block(rig: Rig, first: int) -> None:
    """Flip one bit of a block."""

    def work() -> None:
        with sqlite3.connect(rig.home / "streams.sqlite") as connection:
            body = bytearray(connection.execute("SELECT body FROM blocks WHERE first = ?", (first,)).fetchone()[0])
            body[len(body) // 2] ^= 1
            connection.execute("UPDATE blocks SET body = ? WHERE first = ?", (bytes(body), first))

    await asyncio.to_thread(work)


def test_a_block_in_anothers_place_is_damaged() -> None:
    from appliance.core.streams.encode import Encoder, pack

    proof, body = pack(Priority.low, 1, [Encoder("pc").message(event("telemetry", 1))])
    assert len(unpack(Priority.low, 1, proof, body)) == 1
    for priority, first in ((Priority.low, 2), (Priority.normal, 1)):
        with pytest.raises(CorruptRecordError):
            unpack(priority, first, proof, body)


@pytest.mark.parametrize("garbage", [b"no database at all" * 500, b""])
async def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path, garbage: bytes) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        rig.down()
        await rig.put("telemetry", *range(10))
        await spilled(rig, 10)
    (tmp_path / "streams.sqlite").write_bytes(garbage)
    rig.broker.up = True
    async with running(rig):
        await rig.put("telemetry", *range(10, 20))
        await rig.drained()
        assert rig.broker.numbers("edge.telemetry") == list(range(10, 20))
        report = await rig.outbox.health()
        assert (report.health is Health.degraded) == bool(garbage)
        assert ("damaged" in report.reason) == bool(garbage)
    kept = [each.read_bytes() for each in tmp_path.glob("streams.sqlite.damaged-*")]
    assert kept == ([garbage] if garbage else [])


async def test_damaged_pages_cost_only_what_is_on_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with running(rig):
        rig.down()
        for block in range(30):
            await rig.put("telemetry", *range(block * 10, block * 10 + 10), size=2000)
            await spilled(rig, block * 10 + 10)
        await rig.outbox.letters.add_messages("outbox", [], 0.0)
    path = tmp_path / "streams.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'blocks'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    whole = bytearray(path.read_bytes())
    children = whole[(root - 1) * size + 12 :]  # of the table's root: its cells' places
    cell = int.from_bytes(children[:2]) + (root - 1) * size
    child = int.from_bytes(whole[cell : cell + 4])
    whole[(child - 1) * size : child * size] = b"\xa5" * size
    path.write_bytes(whole)
    async with running(rig):
        rig.up()
        status = await rig.drained()
        got = rig.broker.numbers("edge.telemetry")
        assert 0 < len(got) < 300
        assert got == sorted(set(got))
        assert status.quarantined == 300 - len(got)
        assert (await rig.outbox.health()).health is Health.degraded


async def test_a_producer_that_hangs_is_taken_for_a_link_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PATIENCE", 0.05)
    async with running(Rig(tmp_path)) as rig:
        rig.broker.hang = True
        await rig.put("note", 1)
        await wait_for(lambda: rig.outbox._sender.down)
        assert "did not answer" in (await rig.outbox.status()).error
        rig.broker.hang = False
        rig.outbox.link(True)
        await rig.drained()
        assert rig.broker.numbers("analytics.events") == [1]


async def test_events_that_cannot_be_read_are_set_aside(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.outbox.pause()
        await rig.put("note", 1)
        for values in (("a", "event.noted", b"no json"), ("b", "no.such", b"{}")):
            query = "INSERT INTO outbox (id, type, envelope, priority) VALUES (?, ?, ?, 1)"
            await rig.state.write(lambda c, values=values, query=query: c.execute(query, values))  # type: ignore[misc]
        await rig.put("note", 2)
        await rig.outbox.resume()
        await rig.drained()
        assert rig.broker.numbers("analytics.events") == [1, 2]
        assert rig.journal.unreadable == 2
