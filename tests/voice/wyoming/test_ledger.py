"""The ledger of the voice: written before anything leaves, right to the byte, caps that hold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.core.store import Store
from appliance.core.voice.ledger import Leaving, VoiceLedger, WithheldError
from appliance.core.voice.model import LedgerTotals
from appliance.errors import StoreError
from tests.support import ManualClock

DAY = 86400.0
MIDNIGHT = 20_000 * DAY


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path / "state.db")
    made.open()
    yield made
    made.close()


def leaving(audio: int = 100, text: int = 0, kind: str = "stt") -> Leaving:
    return Leaving(service="far", host="far.example:1", kind=kind, utterance_id="u", audio_bytes=audio, text_bytes=text)


async def test_what_is_set_aside_gives_way_to_what_went(store: Store) -> None:
    ledger = VoiceLedger(store, ManualClock(), 1000)
    number = await ledger.reserve(leaving())
    assert ledger.totals == LedgerTotals(100, 1000, 100, 0, 1)
    (row,) = await ledger.rows()
    assert row.outcome == "cut off", "what ends with the appliance stays so"
    await ledger.settle(number, 60, 0, "failed")
    await ledger.settle(await ledger.reserve(leaving(0, 7, "tts")), 0, 7, "answered")
    unsent = await ledger.reserve(leaving(500))
    await ledger.settle(unsent, 0, 0, "cut off")
    assert ledger.totals == LedgerTotals(60, 1000, 60, 7, 2), "what never left is no request"
    newest, oldest = await ledger.rows()
    assert (newest.kind, newest.text_bytes, oldest.audio_bytes, oldest.host) == ("tts", 7, 60, "far.example:1")
    assert await ledger.rows(before=newest.row) == (oldest,)


async def test_the_cap_holds_to_the_byte_and_ends_with_the_day(store: Store) -> None:
    clock = ManualClock(MIDNIGHT + 3600)
    ledger = VoiceLedger(store, clock, 250)
    number = await ledger.reserve(leaving(200))
    with pytest.raises(WithheldError, match="200 of 250 bytes"):
        await ledger.reserve(leaving(51))
    await ledger.extend(number, 50)
    assert ledger.capped
    with pytest.raises(WithheldError):
        await ledger.extend(number, 1)
    with pytest.raises(WithheldError):
        await ledger.reserve(leaving(0, 5, "tts"))
    clock.move(23 * 3600 - 1)
    assert (await ledger.refresh()).today_bytes == 250
    clock.move(1)
    assert (await ledger.refresh()).today_bytes == 0
    assert not ledger.capped
    await ledger.settle(number, 240, 0, "answered")
    assert ledger.totals == LedgerTotals(0, 250, 240, 0, 1), "it belongs to the day on which it began"


async def test_what_goes_on_over_midnight_counts_for_the_day_on_which_it_goes(store: Store) -> None:
    clock = ManualClock(MIDNIGHT - 60)
    ledger = VoiceLedger(store, clock, 250)
    number = await ledger.reserve(leaving(100))
    clock.move(120)
    await ledger.extend(number, 100)
    await ledger.extend(number, 100)
    with pytest.raises(WithheldError, match="200 of 250 bytes"):
        await ledger.extend(number, 100)
    await ledger.settle(number, 230, 0, "answered")
    assert ledger.totals == LedgerTotals(130, 250, 230, 0, 1), "100 had left before midnight"


async def test_no_cap_of_zero_is_passed(store: Store) -> None:
    ledger = VoiceLedger(store, ManualClock(), 0)
    assert ledger.capped
    with pytest.raises(WithheldError):
        await ledger.reserve(leaving(0, 1))


@pytest.mark.parametrize("jump", [7200.0, DAY, 400 * DAY, -DAY, -3600.0], ids=["2h", "1d", "400d", "-1d", "-1h"])
async def test_a_jump_of_the_clock_frees_nothing(store: Store, jump: float) -> None:
    clock = ManualClock(MIDNIGHT + 22.5 * 3600)
    ledger = VoiceLedger(store, clock, 250, boot=lambda: "boot")
    await ledger.reserve(leaving(250))
    clock.wall_now += jump
    assert (await VoiceLedger(store, clock, 250, boot=lambda: "boot").refresh()).today_bytes == 250
    clock.move(1.5 * 3600)
    assert (await ledger.refresh()).today_bytes == 0, "the day ends in its own time"


async def test_after_a_jump_the_next_days_end_at_midnight(store: Store) -> None:
    clock = ManualClock(MIDNIGHT + 20 * 3600)
    ledger = VoiceLedger(store, clock, 250, boot=lambda: "boot")
    await ledger.refresh()
    clock.wall_now += 5 * 3600
    clock.move(4 * 3600)  # the ledger's midnight; the clock says 5 h
    await ledger.refresh()
    await ledger.reserve(leaving(250))
    clock.move(19 * 3600 - 1)
    assert (await ledger.refresh()).today_bytes == 250
    clock.move(1)
    assert (await ledger.refresh()).today_bytes == 0


async def test_it_holds_across_restarts(store: Store) -> None:
    clock = ManualClock(MIDNIGHT)
    await VoiceLedger(store, clock, 250, boot=lambda: "one").reserve(leaving(200))
    clock.monotonic_now = 5.0
    clock.wall_now += 60
    again = VoiceLedger(store, clock, 250, boot=lambda: "two")
    assert (await again.refresh()).today_bytes == 200
    with pytest.raises(WithheldError):
        await again.reserve(leaving(51))


async def test_rows_are_bounded_and_sums_are_not_lost(store: Store) -> None:
    clock = ManualClock(MIDNIGHT)
    ledger = VoiceLedger(store, clock, 10**9, keep=50)
    for _ in range(200):
        await ledger.reserve(leaving(10))
    assert len(await ledger.rows(limit=1000)) == 50
    assert ledger.totals.total_bytes == 2000
    assert ledger.totals.requests == 200


async def test_days_are_bounded(store: Store) -> None:
    clock = ManualClock(MIDNIGHT)
    ledger = VoiceLedger(store, clock, 10**9)
    await ledger.reserve(leaving(10))
    clock.move(401 * DAY)
    for _ in range(100):
        await ledger.reserve(leaving(10))
    days = await store.read(lambda connection: connection.execute("SELECT count(*) FROM voice_ledger_days").fetchone())
    assert days == (2,), "today, and all together"
    assert ledger.totals.total_bytes == 1010


async def test_a_broken_store_lets_nothing_leave(store: Store) -> None:
    ledger = VoiceLedger(store, ManualClock(), 250)
    store.close()
    with pytest.raises(StoreError):
        await ledger.reserve(leaving())


KILLED = """
import asyncio, sys
from pathlib import Path
from appliance.core.clock import SystemClock
from appliance.core.store import Store
from appliance.core.voice.ledger import VoiceLedger
from appliance.core.voice.model import NO_SENTENCES
from appliance.core.voice.tiers import TieredEngines
from appliance.settingvoice import VoiceSettings
from tests.voice.wyoming.rig import LocalStt, LocalTts, PCM, cloud

async def main():
    store = Store(Path(sys.argv[1])); store.open()
    ledger = VoiceLedger(store, SystemClock(), 10**9)
    settings = VoiceSettings.model_validate({"services": {"far": cloud(sys.argv[2], 60)}, "stt": ("far",), "privacy": "cloud"})
    engines = TieredEngines(settings, LocalStt(), LocalTts(), ledger, SystemClock(), lambda: "cloud")
    await engines.transcribe(PCM, NO_SENTENCES, "killed")

asyncio.run(main())
"""


async def test_kill_9_between_the_row_and_the_answer_loses_no_row(tmp_path: Path) -> None:
    """A server that takes the connection and never reads: the child is killed while the sound waits to go."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        path = tmp_path / "state.db"
        child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), str(path), url])
        try:
            connection, _ = listener.accept()  # never read from; open until the child is gone
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        connection.close()
    assert child.returncode == -signal.SIGKILL
    store = Store(path)
    store.open()
    try:
        ledger = VoiceLedger(store, ManualClock(), 10**9)
        (row,) = await ledger.rows()
        assert (row.utterance_id, row.audio_bytes, row.outcome) == ("killed", 64000, "cut off")
        assert (await ledger.refresh()).total_bytes == 64000
    finally:
        store.close()
