"""The process: killed, hung, stopped, and without a whole model."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from appliance.core.clock import SystemClock
from appliance.core.model import Health
from appliance.core.voice.local import files
from appliance.core.voice.local.child import Child
from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import RATE
from appliance.errors import AbsentError, VoiceError
from tests.support import ManualClock, wait_for
from tests.voice.local_stt.conftest import GRAMMAR, say


def frozen(engine: LocalSpeechToText) -> int:
    """The process, which does nothing any more."""
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return pid


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_one_that_is_killed_at_work_is_started_again_and_asked_once_more(engine: LocalSpeechToText) -> None:
    assert (await engine.check()).health is Health.healthy
    pid = frozen(engine)
    asked = asyncio.create_task(engine.transcribe(say("what can you do", "slt"), GRAMMAR))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    assert (await asked).guesses[0].text == "what can you do"
    again = engine.pid
    assert again is not None
    assert again != pid
    await engine.close()
    assert not alive(again)
    assert engine.pid is None


async def test_one_that_is_killed_both_times_is_told(engine: LocalSpeechToText, monkeypatch: pytest.MonkeyPatch) -> None:
    started, pids = Child.started, []

    async def doomed(*given: Any) -> Child:
        child = await started(*given)
        pids.append(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        return child

    monkeypatch.setattr(Child, "started", doomed)
    with pytest.raises(VoiceError, match="speech recognition ended"):
        await engine.transcribe(say("yes", "slt"), GRAMMAR)
    assert (len(pids), engine.loaded) == (2, False)
    assert (await engine.check()).failed == 1, "one request"


async def test_one_that_hangs_is_killed_at_its_deadline(models: Path) -> None:
    engine = LocalSpeechToText(models, SystemClock(), os.environ, patience=0.5)
    try:
        await engine.check()
        pid = frozen(engine)
        with pytest.raises(VoiceError, match=r"did not answer within 1\.5 s"):
            await engine.transcribe(bytes(2 * RATE), GRAMMAR)
        assert not alive(pid)
        assert not engine.loaded
    finally:
        await engine.close()


async def test_after_failures_it_rests(tmp_path: Path, models: Path) -> None:
    shutil.copytree(models / "voice" / files.NAME, tmp_path / "voice" / files.NAME)
    with (tmp_path / "voice" / files.NAME / "tokenizer.bin").open("r+b") as file:
        file.write(b"?")
    clock = ManualClock()
    engine = LocalSpeechToText(tmp_path, clock, os.environ)
    for _ in range(2):
        with pytest.raises(VoiceError, match=r"tokenizer\.bin is damaged") as caught:
            await engine.transcribe(bytes(RATE), GRAMMAR)
        assert "make setup" in caught.value.next_step
    with pytest.raises(VoiceError, match="failed 2 times"):
        await engine.transcribe(bytes(RATE), GRAMMAR)
    clock.move(1.0)
    assert (await engine.check()).reason.endswith("tokenizer.bin is damaged.")
    assert (await engine.check()).failed == 3


async def test_a_request_that_nobody_waits_for_holds_up_no_other(engine: LocalSpeechToText) -> None:
    await engine.check()
    asked = asyncio.create_task(engine.transcribe(say("the children are playing in the garden. " * 12, "rms"), GRAMMAR))
    await wait_for(engine._lock.locked)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    heard = await engine.transcribe(say("what can you do", "slt"), GRAMMAR)
    assert heard.guesses[0].text == "what can you do"


async def test_one_that_is_at_work_is_well_and_is_not_waited_for(engine: LocalSpeechToText) -> None:
    await engine.check()
    async with engine._lock, asyncio.timeout(5):
        status = await engine.check()
    assert (status.health, status.reason) == (Health.healthy, "It is at work.")


async def test_one_that_is_closed_while_it_starts_does_not_stay(engine: LocalSpeechToText) -> None:
    asked = asyncio.create_task(engine.transcribe(bytes(RATE), GRAMMAR))
    await wait_for(engine._lock.locked)
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(VoiceError, match="closed while it was started"):
        await asked
    assert (engine.loaded, engine.pid) == (False, None)


async def test_without_a_model_it_is_absent(tmp_path: Path) -> None:
    engine = LocalSpeechToText(tmp_path, SystemClock(), os.environ)
    with pytest.raises(AbsentError, match="not installed") as caught:
        await engine.transcribe(bytes(RATE), GRAMMAR)
    assert caught.value.next_step == "run: make setup"
    assert (await engine.check()).health is Health.absent
    assert not engine.loaded


async def test_a_directory_may_be_named_from_where_we_are(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models.parent)
    engine = LocalSpeechToText(Path(models.name), SystemClock(), os.environ)
    try:
        assert (await engine.check()).health is Health.healthy
    finally:
        await engine.close()


async def test_a_file_that_is_missing_is_named(tmp_path: Path, models: Path) -> None:
    shutil.copytree(models / "voice" / files.NAME, tmp_path / "voice" / files.NAME)
    (tmp_path / "voice" / files.NAME / "encoder_model.ort").unlink()
    with pytest.raises(AbsentError, match=r"encoder_model\.ort"):
        await LocalSpeechToText(tmp_path, SystemClock(), os.environ).transcribe(bytes(RATE), GRAMMAR)


def test_the_first_directory_that_has_it_is_taken(tmp_path: Path, models: Path) -> None:
    assert files.place([tmp_path, models]) == models
    assert files.place([tmp_path]) == tmp_path
