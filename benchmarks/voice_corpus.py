"""Spoken commands: sentences of voice_commands.tsv by six voices, in quiet and in noise. The same every time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.voice_noise import LEVEL, NOISES, at_level, clipped, noise
from benchmarks.voice_voices import VOICES, Sound, Voice

COMMANDS = Path(__file__).with_name("voice_commands.tsv")
COUNT = int(os.environ.get("PRIME_SPARK_VOICE_COMMANDS", "200"))
"""Spoken commands of each kind."""
WAKE_WORDS = ("hey spark", "hey prime")
SNRS = (20.0, 15.0, 10.0)


@dataclass(frozen=True)
class Command:
    """A sentence, and what it means."""

    sentence: str
    action: str
    """Empty: the dialogue itself answers."""
    args: dict[str, Any]


@dataclass(frozen=True)
class Spoken:
    """A command as one voice says it, in one breath with a wake word.

    Attributes:
        snr: dB of speech over noise while it is spoken; None in quiet.
        kind: Of the noise.
        seed: Of the noise.
    """

    command: Command
    voice: Voice
    wake_word: str
    snr: float | None = None
    kind: str = ""
    seed: int = 0

    @property
    def words(self) -> str:
        """All that is said."""
        return f"{self.wake_word}, {self.command.sentence}"

    def speech(self) -> Sound:
        """Its sound alone, at LEVEL."""
        return at_level(self.voice.speak(self.words))

    def within(self, before: int, after: int) -> Sound:
        """Its sound with so many samples before and after it: of silence, or of the noise that goes on all the time."""
        speech = self.speech()
        whole = clipped(speech[:0])
        whole.resize(before + len(speech) + after)
        whole[before : before + len(speech)] = speech
        if self.snr is None:
            return whole
        loud = 32768 * 10 ** ((LEVEL - self.snr) / 20)
        return clipped(whole + loud * noise(self.kind, len(whole), self.seed))


@cache
def commands() -> tuple[Command, ...]:
    """All sentences."""
    rows = (line.split("\t") for line in COMMANDS.read_text().splitlines())
    return tuple(Command(sentence, action, json.loads(args)) for sentence, action, args in rows)


def corpus(snr: float | None = None, count: int = COUNT, voices: tuple[Voice, ...] = VOICES) -> list[Spoken]:
    """So many spoken commands; each voice says as many, and no voice says the same sentences in the same order.

    Args:
        snr: dB; None for quiet.
        count: How many.
        voices: Who speaks.
    """
    return list(_spoken(snr, count, voices))


def _spoken(snr: float | None, count: int, voices: tuple[Voice, ...]) -> Iterator[Spoken]:
    found = commands()
    step = 7 if count < len(found) else 1  # a few are to be of all kinds
    for number in range(count):
        command = found[number * step % len(found)]
        voice = voices[(number + number // len(found)) % len(voices)]
        wake_word = WAKE_WORDS[number // len(voices) % len(WAKE_WORDS)]
        kind = NOISES[number // len(voices) // len(WAKE_WORDS) % len(NOISES)] if snr is not None else ""
        yield Spoken(command, voice, wake_word, snr, kind, 1000 + number)


def prepare(spoken: list[Spoken]) -> None:
    """Let the voices speak what they have not spoken yet."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.voice.speak(each.words), spoken))
