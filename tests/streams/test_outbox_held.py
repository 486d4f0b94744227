"""The outbox when its own disk fails in the middle of a batch, and when parts of it are replaced under way."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from appliance.core.model import Health
from appliance.core.streams.ages import HOLD
from appliance.core.streams.keeper import CLEAN
from appliance.core.streams.letterbox import Letterbox
from appliance.core.streams.model import DeadLetter, Message, Priority, Refused
from appliance.core.streams.sender import BATCH, BATCH_BYTES, UNREADABLE
from appliance.core.streams.sources import MOST_REPLAYS
from appliance.errors import InvalidArgumentsError, NotFoundError, StoreError, StreamError
from tests.streams.outbox_rig import Rig, running
from tests.streams.test_outbox_faults import cleaned, pages, spilled
from tests.support import wait_for


async def test_a_letter_that_cannot_be_stored_sends_nothing_twice(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        rig.broker.refuse = lambda message: b'"n":7}' in message.value
        rig.outbox._sender.paused = True
        await rig.put("note", *range(7), *range(8, 100))
        await rig.put("note", 7, size=60_000)
        await rig.put("note", *range(100, 150))
        await pages(rig, 0)
        rig.outbox._sender.paused = False
        rig.outbox._wake()
        await wait_for(lambda: rig.outbox._sender.error)
        for _ in range(5):
            rig.outbox._sender._resting.update(dict.fromkeys(rig.outbox._sender._resting, 0.0))
            seen = rig.outbox._sender._clock.monotonic()
            rig.outbox._wake()
            await wait_for(lambda seen=seen: all(due > seen for due in rig.outbox._sender._resting.values()))  # type: ignore[misc]
        status, report = await rig.outbox.status(), await rig.outbox.health()
        assert len(rig.broker.stored) == 149  # what was behind the refused one in its batch, too; each once
        assert (status.sent, status.waiting) == (149, 51)
        assert report.health is Health.degraded
        assert "streams.sqlite" in report.reason
        await rig.put("health", 1)  # another class goes on
        await wait_for(lambda: rig.broker.numbers("system.health") == [1])
        await pages(rig, None)
        rig.clock.move(UNREADABLE + 1)
        rig.outbox._wake()
        status = await rig.drained()
        assert (status.sent, status.dead, status.error) == (150, 1, "")
        assert len({each.id for each in rig.broker.stored}) == len(rig.broker.stored) == 150
        assert sorted(rig.broker.numbers("analytics.events")) == [*range(7), *range(8, 150)]
        assert (await rig.outbox.health()).health is Health.healthy


@pytest.mark.parametrize("part", ["_journal", "_spill"])
async def test_a_disk_that_fails_at_a_step_of_the_clock_ages_nothing(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, max_age_hours=10)
    async with running(rig):
        rig.down()
        await rig.put("note", *range(10))
        await rig.put("telemetry", *range(10))
        await spilled(rig, 10)
        await cleaned(rig)
        rig.clock.wall_now += 400 * 86400
        failures = []

        async def fail(*_: object) -> None:
            failures.append(1)
            raise StoreError("No room.", "free some.")

        with monkeypatch.context() as patch:
            patch.setattr(getattr(rig.outbox._keeper, part), "shift", fail)
            rig.clock.move(CLEAN + 1)
            await wait_for(lambda: failures)
        await rig.put("note", 10)  # dated by the new clock
        for _ in range(3):
            await cleaned(rig)
        rig.clock.move(HOLD)
        await cleaned(rig)
        status = await rig.outbox.status()
        assert (status.dropped, status.waiting) == (0, 21)
        assert status.oldest_s is not None
        assert HOLD < status.oldest_s < 2 * HOLD
        rig.clock.move(11 * HOLD)
        await cleaned(rig)
        assert (await rig.outbox.status()).dropped == 21


async def test_a_batch_reads_no_more_than_it_sends(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    await rig.open()
    await rig.put("note", *range(40), size=500_000)
    letters = [Refused(Message(f"{n}", "analytics.events", b"k", b"x" * 500_000, Priority.high, 1.0), "") for n in range(40)]
    await rig.outbox.letters.add_messages("outbox", letters, 1.0)
    for letter in await rig.outbox.letters.list():
        await rig.outbox.letters.retry(letter.letter_id)
    for source in (rig.outbox._sender._sources[0], rig.outbox.letters):
        tracemalloc.start()
        messages = await source.peek(Priority.high, BATCH, BATCH_BYTES)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(messages) == 4
        assert peak < 3 * BATCH_BYTES
    await rig.stop()


def letters_of(count: int, topic: str = "analytics.events") -> list[Refused]:
    return [Refused(Message(f"m{n}", topic, b"k", b"%d" % n, Priority.high, 1.0), "too large") for n in range(count)]


async def test_all_letters_are_sent_again_by_one_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Rig(tmp_path, dead_letters=30_000)) as rig:
        letters, writes = rig.outbox.letters, 0
        await letters.add_messages("outbox", letters_of(12_000), 1.0)
        await letters.add(DeadLetter(letter_id="abcd", time=1.0, origin="commands", topic="t", key="", reason="", size=1), b"x")
        await rig.outbox.pause()
        real = rig.store.write

        async def counted(work: object) -> object:
            nonlocal writes
            writes += 1
            return await real(work)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(rig.store, "write", counted)
            assert await Letterbox(lambda: letters, None).retry("all") == (12_000, 1)
            assert writes == 1
        await rig.outbox.resume()
        await wait_for(lambda: len(rig.broker.stored) == 12_000)
        assert [each.value for each in rig.broker.stored] == [b"%d" % n for n in range(12_000)]
        await wait_for(lambda: letters.count == 1)


async def test_one_letter_is_found_by_the_end_of_its_id_among_any_number(tmp_path: Path) -> None:
    rig = Rig(tmp_path, dead_letters=30_000)
    await rig.open()
    letters = rig.outbox.letters
    box = Letterbox(lambda: letters, None)
    for name in ("old-1", "old-2"):
        letter = DeadLetter(letter_id=name, time=1.0, origin="outbox", topic="analytics.events", key="", reason="", size=1)
        await letters.add(letter, b"x")
    await letters.add_messages("outbox", letters_of(10_100), 1.0)
    assert (await box.find("ld-1")).letter_id == "old-1"
    await letters.add(msgspec.structs.replace(letter, letter_id="new-2"), b"x")
    with pytest.raises(InvalidArgumentsError, match="2 letters"):
        await box.find("-2")
    with pytest.raises(NotFoundError):
        await box.retry("%")
    assert await box.retry("w-2") == (1, 0)
    assert await box.discard("ld-1") == 1
    assert await box.discard("all") == 10_102
    assert letters.count == 0
    await rig.stop()


async def test_a_replay_that_goes_with_its_file_under_way_stops_nothing(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.put("note", *range(10))
        await rig.drained()
        await rig.outbox.pause()
        await rig.outbox.replay(0, rig.clock.wall() + 1, ())
        rig.broker.gate = asyncio.Event()
        calls = rig.broker.calls
        await rig.outbox.resume()
        await wait_for(lambda: rig.broker.calls > calls)
        await rig.store.write(lambda connection: connection.execute("DELETE FROM replays"))
        await rig.outbox._load()  # as after a rescue that could not save the replay
        rig.broker.gate.set()
        await wait_for(lambda: len(rig.broker.stored) == 20)
        await rig.put("note", 10)
        await wait_for(lambda: rig.broker.numbers("analytics.events")[-1] == 10)
        assert (await rig.outbox.status()).error == ""


async def test_replays_are_bounded(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.put("note", *range(10))
        await rig.drained()
        rig.down()
        for _ in range(MOST_REPLAYS - len(Priority) + 1):
            await rig.outbox.replay(0, rig.clock.wall() + 1, ())
        with pytest.raises(StreamError, match="97 replays wait"):
            await rig.outbox.replay(0, rig.clock.wall() + 1, ())
