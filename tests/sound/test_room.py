"""The room itself: what is said is what its microphone has, and what is played is what its speaker has."""

from __future__ import annotations

import asyncio
import subprocess

import numpy as np

from tests.servers.sound import SoundRoom
from tests.support import wait_for


async def test_what_is_played_is_heard_and_what_is_said_is_not(sound_room: SoundRoom) -> None:
    tone = (9000 * np.sin(np.arange(8000) * 0.2)).astype("<i2").tobytes()
    async with sound_room.heard() as heard:
        await sound_room.say(tone)
        quiet = heard.loudest
        played = await asyncio.to_thread(
            subprocess.run,
            ["pacat", "--playback", "--device=speaker", "--rate=16000", "--channels=1", "--latency-msec=40"],
            input=tone, env=sound_room.environ, timeout=20, check=True,
        )  # fmt: skip
        await wait_for(lambda: heard.loudest > 8000)
    assert (quiet, played.returncode) == (0, 0)


async def test_a_microphone_that_is_unplugged_is_gone_until_it_is_plugged_in(sound_room: SoundRoom) -> None:
    def sources() -> str:
        return subprocess.run(
            ["pactl", "list", "short", "sources"], env=sound_room.environ, capture_output=True, text=True, check=True
        ).stdout

    assert "room.monitor" in sources()
    sound_room.unplug()
    assert "room.monitor" not in sources()
    sound_room.plug()
    assert "room.monitor" in sources()
