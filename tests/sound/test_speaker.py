"""What is played is heard in the room, as it was and when it was said to be; stopping stops it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import AbsentError, DeviceError, DeviceStalledError
from appliance.hw.sound.devices import PortAudioSound
from appliance.hw.sound.speaker import PortAudioSpeaker
from tests.servers.sound import SoundRoom
from tests.sound.ears import pitch, sounded, tone
from tests.support import wait_for


@pytest.fixture
async def speaker(sound_room: SoundRoom) -> AsyncIterator[PortAudioSpeaker]:
    """The speaker of the room."""
    sound = PortAudioSound(sound_room.environ)
    yield sound.speaker("desk")
    await sound.close()


async def pieces(pcm: bytes, size: int = 3001) -> AsyncIterator[bytes]:
    """Sound as it comes, not in whole samples."""
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size]


class Endless:
    """A tone without an end, and what became of it."""

    def __init__(self) -> None:
        self.closed = False

    async def pcm(self) -> AsyncIterator[bytes]:
        """It."""
        try:
            while True:
                yield tone(0.1)
        finally:
            self.closed = True


@pytest.mark.parametrize("rate", [16000, 22050])
async def test_all_of_a_sound_is_heard(sound_room: SoundRoom, speaker: PortAudioSpeaker, rate: int) -> None:
    begun: list[float] = []
    async with sound_room.heard() as heard:
        seconds = await speaker.play(pieces(tone(1.0, rate)), rate, lambda: begun.append(time.monotonic()))
        returned = time.monotonic()
        await wait_for(lambda: sounded(heard.pcm) > 0.97)
    assert seconds == pytest.approx(1.0)
    assert sounded(heard.pcm) == pytest.approx(0.99, abs=0.01)  # the rest is where the wave passes zero
    middle = np.frombuffer(heard.pcm, "<i2")
    loud = np.nonzero(np.abs(middle) > 200)[0]
    assert pitch(middle[loud[0] : loud[-1]].tobytes()) == pytest.approx(440, abs=2)
    assert heard.loudest == pytest.approx(12000, rel=0.1)
    assert len(begun) == 1
    assert begun[0] <= returned - 0.9  # it was told at the beginning, not at the end
    assert (speaker.status().playing, speaker.status().available) == (False, True)


async def test_the_beginning_is_told_while_it_plays(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    begun = asyncio.Event()
    endless = Endless()
    async with sound_room.heard() as heard:
        playing = asyncio.create_task(speaker.play(endless.pcm(), 16000, begun.set))
        await wait_for(lambda: heard.loudest > 5000 and begun.is_set())
        assert not playing.done()
        speaker.stop()
        await playing


async def test_stop_is_silence_at_once(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    endless = Endless()
    async with sound_room.heard() as heard:
        playing = asyncio.create_task(speaker.play(endless.pcm(), 16000))
        waiting = asyncio.create_task(speaker.play(pieces(tone(1.0)), 16000))
        await wait_for(lambda: heard.loudest > 5000)
        before = len(heard.pcm)
        speaker.stop()
        assert 0.0 < await playing < 5.0
        assert await waiting == 0.0
        after = len(heard.pcm)
        await wait_for(lambda: len(heard.pcm) > after + 16000)
        assert sounded(heard.pcm[before:]) < 0.5  # of which most was in the recorder's own buffer; a second more was waiting
        assert not any(heard.pcm[-8000:])
    assert endless.closed


async def test_it_plays_again_after_a_stop(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    playing = asyncio.create_task(speaker.play(Endless().pcm(), 16000))
    await wait_for(lambda: speaker.status().playing)
    speaker.stop()
    await playing
    pid = speaker.pid
    assert await speaker.play(pieces(tone(0.2)), 16000) == pytest.approx(0.2)
    assert speaker.pid == pid


async def test_the_volume_is_a_factor(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    speaker.volume = 0.25
    async with sound_room.heard() as heard:
        await speaker.play(pieces(tone(0.3)), 16000)
        await wait_for(lambda: sounded(heard.pcm) > 0.28)
    assert heard.loudest == pytest.approx(3000, rel=0.05)


async def test_a_gap_in_what_comes_is_an_underrun_and_no_end(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    async with sound_room.heard() as heard:

        async def halting() -> AsyncIterator[bytes]:
            yield tone(0.2)
            await wait_for(lambda: heard.loudest > 5000 and not any(heard.pcm[-1600:]))
            yield tone(0.2)

        assert await speaker.play(halting(), 16000) == pytest.approx(0.4)
    assert speaker.status().underruns == 1


async def test_a_sound_that_fails_is_the_callers_error_and_ends_it(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield tone(0.2)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await speaker.play(failing(), 16000)
    assert not speaker.status().playing
    assert await speaker.play(pieces(tone(0.1)), 16000) == pytest.approx(0.1)


async def test_nothing_to_play_is_played_at_once(speaker: PortAudioSpeaker) -> None:
    begun: list[bool] = []
    assert await speaker.play(pieces(b""), 16000, lambda: begun.append(True)) == 0.0
    assert begun == []


async def test_an_unplugged_speaker_is_told_and_found_again(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    playing = asyncio.create_task(speaker.play(Endless().pcm(), 16000))
    async with sound_room.heard() as heard:
        await wait_for(lambda: heard.loudest > 5000)
    sound_room.unplug("speaker")
    with pytest.raises(DeviceError):
        await playing
    status = speaker.status()
    assert (status.available, status.playing) == (False, False)
    assert "plug it in again" in status.next_step
    sound_room.plug("speaker")
    assert await speaker.play(pieces(tone(0.1)), 16000) == pytest.approx(0.1)
    assert (speaker.status().available, speaker.status().problem) == (True, "")


async def test_a_hung_process_is_killed_and_told(speaker: PortAudioSpeaker) -> None:
    playing = asyncio.create_task(speaker.play(Endless().pcm(), 16000))
    await wait_for(lambda: speaker.status().available)
    pid = speaker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(DeviceStalledError):
        await playing
    assert not Path(f"/proc/{pid}").exists()


async def test_a_process_that_was_killed_meanwhile_is_started_anew(speaker: PortAudioSpeaker) -> None:
    assert (await speaker.check()).available
    pid = speaker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert await speaker.play(pieces(tone(0.1)), 16000) == pytest.approx(0.1)


async def test_a_look_that_nobody_waits_for_any_more_does_not_spoil_the_next_sound(speaker: PortAudioSpeaker) -> None:
    looking = asyncio.create_task(speaker.check())
    await wait_for(lambda: speaker.pid is not None)
    looking.cancel()
    await asyncio.wait({looking})
    assert await speaker.play(pieces(tone(0.1)), 16000) == pytest.approx(0.1)
    assert (speaker.status().available, speaker.status().name) == (True, "Desk_Speaker")


async def test_whoever_is_cancelled_at_the_very_end_is_cancelled(speaker: PortAudioSpeaker) -> None:
    ends, ended = asyncio.Event(), asyncio.Event()

    async def slow_to_close() -> AsyncIterator[bytes]:
        yield tone(0.1)
        try:
            await asyncio.Event().wait()
        finally:
            ends.set()
            await ended.wait()

    playing = asyncio.create_task(speaker.play(slow_to_close(), 16000))
    await wait_for(lambda: speaker.status().available)
    speaker.stop()
    await ends.wait()
    playing.cancel()
    await asyncio.wait({playing})
    ended.set()
    assert playing.cancelled()


async def test_a_speaker_that_is_not_there_is_absent(sound_room: SoundRoom) -> None:
    speaker = PortAudioSound(sound_room.environ).speaker("Jabra")
    with pytest.raises(AbsentError, match='No sound output device is called "Jabra"'):
        await speaker.play(pieces(tone(0.1)), 16000)
    assert not speaker.status().available
    assert "Jabra" in (await speaker.check()).problem


async def test_whoever_gives_up_waiting_silences_it(sound_room: SoundRoom, speaker: PortAudioSpeaker) -> None:
    playing = asyncio.create_task(speaker.play(Endless().pcm(), 16000))
    await wait_for(lambda: speaker.status().available)
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    assert (speaker.status().playing, speaker.pid) == (False, None)
