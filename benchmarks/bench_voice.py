"""The voice: spoken commands through a room, and in noise; hours without a wake word; what listening costs.

PRIME_SPARK_VOICE_COMMANDS=20 is a short run of some minutes, instead of 200 commands of each kind and three hours of sound.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from itertools import islice

import numpy as np

from appliance.core.voice.detect.conditioning import Conditioner
from appliance.core.voice.model import FRAME, RATE
from appliance.core.voice.words import normal
from appliance.settingvoice import VoiceSettings
from benchmarks import voice_nights, voice_port, voice_room
from benchmarks.rows import Figure, at_least, at_most
from benchmarks.voice_corpus import COUNT, SNRS, corpus
from benchmarks.voice_noise import LEVEL, clipped, noise
from benchmarks.voice_port import Result, share
from tests.voice.e2e.rig import VoiceAppliance

SHARE = min(1.0, COUNT / 200)
"""Of the long run."""
WATCHED = 20.0
"""Seconds over which the cost of listening is measured."""
METERS = 8
"""Levels a second, while somebody watches."""
TEXTS = ("The battery is at ninety percent.", "All services run.", "It is four o'clock.", "Two nodes are down.", "Done.")
FREE = "the recognition's own words"


def run() -> list[Figure]:
    """The room first, while nothing else runs; then the tables."""
    room = asyncio.run(_room())
    noisy = asyncio.run(voice_port.measure([*SNRS], voice_port.show))
    voice_port.table(noisy)
    tables = [_right(f"right action in noise, {snr:g} dB (at the port)", results) for snr, results in noisy.items()]
    return [*room, *tables, *asyncio.run(_nights()), *_meter()]


def _right(name: str, results: list[Result], budget: float | None = None) -> Figure:
    words = share(results, lambda each: normal(each.words) == normal(each.spoken.command.sentence))
    if budget is None:
        return Figure(name, round(share(results), 2), "%", peer=FREE, peer_measured=words)
    return at_least(name, share(results), "%", budget, FREE, words)


async def _room() -> list[Figure]:
    """Commands in quiet, through the air; then what it costs to listen."""
    results = await voice_room.measure(corpus(), voice_port.show)
    voice_port.table({None: results})
    acts, sounds = voice_room.times(results, "to_action"), voice_room.times(results, "to_sound")
    figures = [
        _right(f"right action, {len(results)} spoken commands through a room", results, 95.0),
        Figure("woken by its name, through a room", round(share(results, lambda each: each.woke), 2), "%"),
        at_most("end of speech to action, p95", voice_room.percentile(acts, 95), "ms", 700.0, "median",
                voice_room.percentile(acts, 50)),
        Figure("end of speech to the answer's first sound, p95", round(voice_room.percentile(sounds, 95), 1), "ms", None,
               "median", voice_room.percentile(sounds, 50)),
    ]  # fmt: skip
    async with voice_room.appliance() as spark:
        await asyncio.to_thread(time.sleep, 5.0)  # what it does once after the start is no part of listening
        figures += await _listening(spark)
        spoken = await voice_room.sound_latency(spark, [*TEXTS])
    figures.append(
        Figure("text to first sound, median", round(statistics.median(spoken), 1), "ms", None, "espeak-ng alone", _espeak())
    )
    return figures


async def _listening(spark: VoiceAppliance) -> list[Figure]:
    hiss = clipped(32768 * 10 ** ((LEVEL - 15) / 20) * noise("pink", 30 * RATE, 1))
    talking = np.concatenate(list(islice(voice_nights.sounds("television"), 12)))
    figures = []
    for name, played in (("in quiet", []), ("in noise", [hiss]), ("beside a television", [talking])):
        cpu, rss = await voice_room.usage(spark, played, WATCHED)
        figures.append(at_most(f"listening {name}: CPU of one core, all processes", cpu, "%", 15.0))
    figures.append(Figure("RSS of all processes, while it listens", round(rss, 1), "MB"))
    return figures


async def _nights() -> list[Figure]:
    phrases = VoiceSettings().wake_words
    nights = await voice_nights.false_wakes(SHARE, (*phrases, *voice_nights.SHIPPED), voice_nights.show)
    ordinary = [night for night in nights if night.kind != voice_nights.NEAR]
    near = next(night for night in nights if night.kind == voice_nights.NEAR)
    hours = sum(night.seconds for night in ordinary) / 3600
    own = sum(night.hits[phrase] for night in ordinary for phrase in phrases)
    models = sum(night.hits[phrase] for night in ordinary for phrase in voice_nights.SHIPPED)
    alike = sum(near.hits[phrase] for phrase in phrases) / (near.seconds / 60)
    return [
        at_most(f"false wakes an hour, {', '.join(phrases)}, {hours:.2f} h", own / hours, "1/h", 0.5, "four wake models",
                models / hours),
        Figure("false wakes a minute, of words nearly alike", round(alike, 2), "1/min"),
    ]  # fmt: skip


def _espeak() -> float:
    """Milliseconds in which espeak-ng alone makes such a text, median."""
    took = []
    for text in TEXTS:
        began = time.perf_counter()
        subprocess.run(["espeak-ng", "--stdout", text], check=True, capture_output=True)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took)


def _meter() -> list[Figure]:
    """What a level costs, as often as it is shown."""
    conditioner, pcm = Conditioner(), clipped(3000 * noise("pink", FRAME * 64, 1))
    for at in range(0, len(pcm), FRAME):
        conditioner.feed(pcm[at : at + FRAME].tobytes())
    began = time.perf_counter()
    for _ in range(500):
        conditioner.level(0.5, None)
    took = (time.perf_counter() - began) / 500
    return [at_most("level meter, 8 a second: CPU of one core", 100 * METERS * took, "%", 0.5)]
