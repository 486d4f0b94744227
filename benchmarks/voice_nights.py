"""Hours of sound without a wake word, and how often one is heard; and wake words, and how often they are: `python -m
benchmarks.voice_nights [SHARE] [false|hits]`, where SHARE (1) is that of the three hours which is heard.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import numpy as np
import soxr

from appliance.core.clock import SystemClock
from appliance.core.voice.detect.endpoint import Endpointer
from appliance.core.voice.detect.front import Front
from appliance.core.voice.ear import Around, Ear
from appliance.core.voice.model import RATE, Hit, Stage
from appliance.core.voice.spotting import Spotting
from appliance.settingvoice import VoiceSettings
from benchmarks.voice_corpus import SNRS, corpus
from benchmarks.voice_noise import LEVEL, at_level, clipped, music, noise
from benchmarks.voice_tape import Pace, Recognizer, Tape, silence
from benchmarks.voice_texts import passages, talk
from benchmarks.voice_voices import VOICES, Sound, read

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / ".models/samples"
MODELS = ROOT / ".models"
RECORDINGS = ("beckett.wav", "two_cities.wav")
SHIPPED = ("okay nabu", "hey jarvis", "hey mycroft", "alexa")
"""Wake words that models hear; those of the settings are recognised."""
NEAR = "nearly a wake word"
"""Said to find the limit; nobody talks like that for hours, so it is told apart and is not among the hours."""
MINUTES = {
    "reading": 75.0, "reading in noise": 25.0, "everyday talk": 25.0, "people": 12.0, "television": 25.0, "music": 10.0,
    "babble": 8.0, "white noise": 5.0, "pink noise": 5.0, "hum": 5.0, NEAR: 9.0,
}  # fmt: skip
"""Of each kind of sound: 3 h 15 min, and NEAR."""


@dataclass
class Night:
    """What came of one kind of sound."""

    kind: str
    seconds: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    heard: list[tuple[float, Hit]] = field(default_factory=list)
    """Seconds from its beginning, and what was heard."""
    took: float = 0.0
    worked: float = 0.0
    """Of `took`, seconds of recognition."""
    looks: int = 0


def sounds(kind: str) -> Iterator[Sound]:
    """Sounds of a kind, without end."""
    makers: dict[str, Callable[[], Iterator[Sound]]] = {
        "reading": _reading, "people": _people, "television": _television,
        "everyday talk": _talk, NEAR: lambda: _talk(near=True),
        "reading in noise": lambda: (_over(each, "pink", 15.0, number) for number, each in enumerate(_reading(40))),
        "music": lambda: (music(30.0, seed) for seed in count()),
    }  # fmt: skip
    if kind in makers:
        return makers[kind]()
    name = kind.removesuffix(" noise")
    return (clipped(32768 * 10 ** (LEVEL / 20) * noise(name, 20 * RATE, seed)) for seed in count())


def _reading(seed: int = 7) -> Iterator[Sound]:
    random = np.random.default_rng(seed)
    for number, passage in enumerate(passages(seed)):
        yield at_level(VOICES[number % len(VOICES)].speak(passage))
        yield silence(random.uniform(0.2, 2.0))


def _talk(*, near: bool = False) -> Iterator[Sound]:
    random, texts = np.random.default_rng(3), talk(near=near)
    for number in count():
        voice = VOICES[(number + number // len(texts)) % len(VOICES)]
        yield at_level(voice.speak(texts[number % len(texts)]))
        yield silence(random.uniform(0.4, 2.0))


def _people() -> Iterator[Sound]:
    """Recordings of people who read, at several speeds; the slower ones sound lower, as of other people."""
    random = np.random.default_rng(5)
    for number in count():
        for name in RECORDINGS:
            sound = read(SAMPLES / name)
            speed = (1.0, 0.9, 1.1, 0.95, 1.05)[number % 5]
            turned = np.asarray(soxr.resample(sound, RATE * speed, RATE), np.int16)
            for part in np.array_split(at_level(turned), max(1, len(turned) // (15 * RATE))):
                yield part
                yield silence(random.uniform(0.3, 2.0))


def _television() -> Iterator[Sound]:
    random = np.random.default_rng(9)
    for number, passage in enumerate(passages(11)):
        said = at_level(VOICES[number % len(VOICES)].speak(passage))
        long = len(said) / RATE + random.uniform(0.3, 1.5)
        played = music(long, 500 + number)[: len(said)]
        said = said[: len(played)]
        yield clipped(0.7 * said.astype(float) + 0.35 * played)


def _over(sound: Sound, kind: str, snr: float, seed: int) -> Sound:
    loud = 32768 * 10 ** ((LEVEL - snr) / 20)
    return clipped(sound + loud * noise(kind, len(sound), seed))


def lasting(found: Iterator[Sound], seconds: float) -> Iterator[Sound]:
    """So much of it."""
    left = int(seconds * RATE)
    while left > 0:
        sound = next(found)[:left]
        left -= len(sound)
        yield sound


@contextlib.asynccontextmanager
async def recognizer(pace: Pace) -> AsyncIterator[Recognizer]:
    """The recognition of this machine."""
    made = Recognizer(MODELS, SystemClock(), os.environ)
    made.pace = pace
    try:
        yield made
    finally:
        await made.close()


class Listener:
    """The ear of the appliance at the end of a tape, never served: what it hears is noted.

    Args:
        pace: Its clock.
        local: The recognition.
        phrases: Wake words.
    """

    def __init__(self, pace: Pace, local: Recognizer, phrases: tuple[str, ...]) -> None:
        settings = VoiceSettings()
        self._pace = pace
        self.front = Front(phrases, (), settings.wake_sensitivity)
        self.heard: list[tuple[float, Hit]] = []
        self.spotting = Spotting(
            self.front.uncovered, local.spot, settings.wake_sensitivity, self._found, time.time, pace.now
        )  # fmt: skip
        around = Around(
            stage=lambda: Stage.idle, saying=str, wakes=self._wakes, levels=lambda _: None, watched=lambda: False
        )  # fmt: skip
        self.ear = Ear(self.front, self.spotting, lambda: Endpointer(settings.end_silence_ms, 20.0), around)

    def _found(self, hit: Hit, since: float) -> None:
        self.ear.woken(hit, since)

    def _wakes(self, hit: Hit, since: float) -> None:
        self.heard.append((self._pace.sound, hit))

    async def hear(self, found: Iterator[Sound]) -> list[tuple[float, Hit]]:
        """What it hears in these sounds; seconds from their beginning."""
        tape, began = Tape(self._pace), self._pace.sound
        tape.add(found)
        tape.end()
        self.heard = []
        await self.ear.listen(tape)
        await self._pace.ready()
        return [(moment - began, hit) for moment, hit in self.heard]


async def false_wakes(share: float, phrases: tuple[str, ...], told: Callable[[Night], None]) -> list[Night]:
    """Listen to all kinds of sound."""
    pace, nights = Pace(), []
    async with recognizer(pace) as local:
        listener = Listener(pace, local, phrases)
        for kind, minutes in MINUTES.items():
            began, worked, looks = time.perf_counter(), pace.worked, listener.spotting.looks
            night = Night(kind, minutes * 60 * share)
            night.heard = await listener.hear(lasting(sounds(kind), night.seconds))
            night.hits = Counter(hit.phrase for _, hit in night.heard)
            night.took, night.worked = time.perf_counter() - began, pace.worked - worked
            night.looks = listener.spotting.looks - looks
            nights.append(night)
            told(night)
        await listener.ear.close()
    return nights


async def hits(share: float, phrases: tuple[str, ...]) -> Counter[tuple[str, str, str, bool]]:
    """(wake word, voice, noise, whether it was heard) → times, for each SNR and each voice."""
    pace, found = Pace(), Counter[tuple[str, str, str, bool]]()
    async with recognizer(pace) as local:
        listener = Listener(pace, local, phrases)
        for snr in (None, *SNRS):
            spoken = corpus(snr, round(len(phrases) * 36 * share))
            for number, each in enumerate(spoken):
                phrase = phrases[number // len(VOICES) % len(phrases)]
                said = type(each)(each.command, each.voice, phrase, each.snr, each.kind, each.seed)
                heard = await listener.hear(iter([said.within(2 * RATE, RATE)]))
                right = any(hit.phrase == phrase for _, hit in heard)
                found[phrase, each.voice.name, "quiet" if snr is None else f"{snr:g} dB", right] += 1
        await listener.ear.close()
    return found


def show(night: Night) -> None:
    """One line, and what was heard."""
    hours = night.seconds / 3600
    words = ", ".join(f"{phrase} {times}" for phrase, times in night.hits.items()) or "none"
    print(
        f"{night.kind:18} {night.seconds / 60:6.1f} min  false wakes {words} ({sum(night.hits.values()) / hours:.2f}/h)  "
        f"{night.looks} looks  took {night.took:.0f} s, recognition {night.worked:.0f} s", flush=True,
    )  # fmt: skip
    for moment, hit in islice(night.heard, 12):
        print(f"    at {moment:7.1f} s: {hit.phrase} {hit.score:.2f} ({hit.heard_by})")


def show_hits(found: Counter[tuple[str, str, str, bool]]) -> None:
    """Shares that were heard, by wake word, by voice and by noise."""
    for place, name in enumerate(("wake word", "voice", "noise")):
        for value in dict.fromkeys(key[place] for key in found):
            right = sum(times for key, times in found.items() if key[place] == value and key[3])
            total = sum(times for key, times in found.items() if key[place] == value)
            print(f"{name:10} {value:14} {right}/{total} = {100 * right / total:.1f} %")


async def main(share: float, what: str) -> None:
    """Measure and print."""
    phrases = (*VoiceSettings().wake_words, *SHIPPED)
    if what in {"", "hits"}:
        show_hits(await hits(share, phrases))
    if what in {"", "false"}:
        nights = await false_wakes(share, phrases, show)
        ordinary = [night for night in nights if night.kind != NEAR]
        own = sum(night.hits[phrase] for night in ordinary for phrase in VoiceSettings().wake_words)
        hours = sum(night.seconds for night in ordinary) / 3600
        print(f"{hours:.2f} h: {own} false wakes of {', '.join(VoiceSettings().wake_words)} ({own / hours:.2f}/h)")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, sys.argv[2] if len(sys.argv) > 2 else ""))
