"""Spoken commands through the air: played in real time into a room whose microphone a real appliance hears through PortAudio:
`python -m benchmarks.voice_room`. What it did is read from its status and its audit over the control socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from appliance.core.voice.model import RATE, Timings
from appliance.errors import ApplianceError
from benchmarks.voice_corpus import Spoken, corpus, prepare
from benchmarks.voice_port import Result, show, table
from benchmarks.voice_voices import Sound
from tests.servers.sound import SoundRoom
from tests.voice.e2e.rig import VoiceAppliance

SETTINGS = '[voice]\nfollow_up_seconds = 0\nspeaker = "Desk_Speaker"\nvoice_speed = 400\n'
LEAD, TRAIL = RATE // 5, RATE // 5
"""Samples of silence around what is played; after it the room is silent."""
PATIENCE = 4.0
"""Seconds in which it must have begun to listen."""


@contextlib.asynccontextmanager
async def appliance(settings: str = SETTINGS) -> AsyncIterator[VoiceAppliance]:
    """One in a room, ready."""
    with tempfile.TemporaryDirectory(prefix="spark-room-") as own:
        home = Path(own) / "home"
        home.mkdir(mode=0o700)
        with SoundRoom(Path(own) / "room", channels=6) as room:
            spark = VoiceAppliance(home, room)
            try:
                spark.start(settings)
                await spark.ready()
                yield spark
            finally:
                spark.stop()


async def hear(spark: VoiceAppliance, spoken: Spoken) -> Result:
    """Play one, and see what comes of it; the answer is cut short."""
    before = (await spark.stage("idle"))["utterances"]
    known = before[0]["utterance_id"] if before else ""
    rows = await _newest_row(spark)
    sound = np.asarray(spoken.within(LEAD, TRAIL))
    await spark.room.say(sound.tobytes())
    one = await _outcome(spark, known)
    if one is None:
        return Result(spoken, False)
    args = await _args(spark, rows, one["action"]) if one["outcome"] != "asked" else None
    if args is not None:  # the audit has those that nobody said, too
        args = {name: args[name] for name in spoken.command.args if name in args}
    timings = msgspec.convert(one["timings"], Timings)
    return Result(spoken, True, one["words"], one["action"], args, one["outcome"], timings)


async def _outcome(spark: VoiceAppliance, known: str) -> dict[str, Any] | None:
    """The utterance that comes of it; None where it was not woken."""
    ends, stage = time.monotonic() + PATIENCE, ""
    while True:
        status = await spark.status()
        before, stage = stage, status["stage"]
        if stage in {"confirming", "following"} or before == stage == "speaking":
            await spark.invoke("voice.cancel")
        newest = next(iter(status["utterances"]), None)
        if newest is not None and newest["utterance_id"] != known:
            return dict(newest)
        if status["stage"] == "idle" and time.monotonic() > ends:
            return None
        await asyncio.sleep(0.15)


async def _newest_row(spark: VoiceAppliance) -> int:
    rows = await spark.invoke("audit.list", limit=1)
    return int(rows[0]["seq"]) if rows else 0


async def _args(spark: VoiceAppliance, since: int, action: str) -> dict[str, Any] | None:
    """What an action was given, as the audit has it; None for queries, which are not audited."""
    rows = await spark.invoke("audit.list", limit=20)
    return next((row["args"] for row in rows if row["seq"] > since and row["action"] == action), None)


async def measure(spoken: list[Spoken], told: Callable[[Result], None] = lambda _: None) -> list[Result]:
    """Play all of them, one after the other."""
    prepare(spoken)
    found: list[Result] = []
    async with appliance() as spark:
        for each in spoken:
            found.append(await hear(spark, each))
            told(found[-1])
    return found


def percentile(values: list[float], part: float) -> float:
    """The value that so many percent are not above."""
    return float(np.percentile(values, part)) if values else float("nan")


def times(results: list[Result], name: str) -> list[float]:
    """Of all that have it, milliseconds."""
    return [value for each in results if each.timings and (value := getattr(each.timings, name)) is not None]


async def usage(spark: VoiceAppliance, sounds: list[Sound], seconds: float) -> tuple[float, float]:
    """(percent of one core, MB) of the whole appliance while these are heard, over and over."""
    playing = asyncio.create_task(_play(spark, sounds)) if sounds else None
    try:
        return await asyncio.to_thread(spark.usage, seconds)
    finally:
        if playing is not None:
            playing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await playing


async def _play(spark: VoiceAppliance, sounds: list[Sound]) -> None:
    while True:
        for each in sounds:
            await spark.room.say(np.asarray(each).tobytes())


async def sound_latency(spark: VoiceAppliance, texts: list[str]) -> list[float]:
    """Milliseconds from asking for a text to be said until it is heard in the speaker."""
    found = []
    for text in texts:
        async with spark.room.heard() as heard:
            began = time.perf_counter()
            saying = asyncio.create_task(spark.invoke("voice.say", text=text))
            while heard.loudest < 300 and not saying.done():
                await asyncio.sleep(0.002)
            found.append(1000 * (time.perf_counter() - began))
            with contextlib.suppress(ApplianceError):
                await spark.invoke("voice.cancel")
            with contextlib.suppress(ApplianceError):
                await saying
    return found


def main() -> None:
    """Measure and print."""
    results = asyncio.run(measure(corpus(), show))
    table({None: results})
    for name in Timings.__struct_fields__:
        if found := times(results, name):
            print(f"{name:12} p50 {percentile(found, 50):7.0f} ms  p95 {percentile(found, 95):7.0f} ms  of {len(found)}")


if __name__ == "__main__":
    main()
