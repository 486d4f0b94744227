"""Text to speech by a program of this machine: what espeak-ng and piper have in common."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping

from appliance.core.model import Health
from appliance.core.voice.local.programs import output
from appliance.core.voice.local.spoken import speakable
from appliance.core.voice.local.wave import unwrapped
from appliance.core.voice.model import EngineStatus, Place, Speech
from appliance.errors import AbsentError, VoiceError

AT_ONCE = 2
"""Programs that may speak at one time; what is beyond waits."""


class ProgramVoice(ABC):
    """Runs a program for each text (implements engine.TextToSpeech); whoever stops waiting ends it.

    Args:
        model: What speaks, as it is shown.
        environ: Environment of the program.
        limit: Seconds that a text may take.
    """

    name = "local"
    place = Place.local

    def __init__(self, model: str, environ: Mapping[str, str], limit: float) -> None:
        self._model = model
        self._environ = dict(environ)
        self._limit = limit
        self._room = asyncio.Semaphore(AT_ONCE)
        self._used = self._failed = 0
        self._last_ms: float | None = None
        self._trouble = ""

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments; it is given the text, and gives a WAV file. Raises AbsentError."""

    async def synthesize(self, text: str) -> Speech:
        """Make the sound of a sentence or two; of a text without a word, no sound.

        Raises:
            AbsentError: The program or its voice is not there.
            VoiceError: It failed, or took too long.
        """
        words = speakable(text)
        if not words:
            return Speech(b"", 16000, self._model)
        began = time.monotonic()
        try:
            async with self._room:
                wav = await output(self.command(), words.encode() + b"\n", self._limit, environ=self._environ)
            pcm, rate = unwrapped(wav)
            if not pcm:
                raise VoiceError(f"{self._model} made no sound", "see its voice.")
        except (VoiceError, AbsentError) as error:
            self._failed += 1
            self._trouble = error.message
            raise
        self._used, self._trouble = self._used + 1, ""
        self._last_ms = 1000 * (time.monotonic() - began)
        return Speech(pcm, rate, self._model, took_ms=self._last_ms)

    async def check(self) -> EngineStatus:
        """Whether the program and its voice are there, and what its last text came to."""
        health, reason, step = Health.healthy, "is installed", ""
        try:
            self.command()
        except AbsentError as error:
            health, reason, step = Health.absent, error.message, error.next_step
        else:
            if self._trouble:
                health, reason, step = Health.degraded, self._trouble, "it is asked again for the next sentence."
        return EngineStatus(
            self.name,
            "tts",
            self.place,
            health,
            reason,
            step,
            self._model,
            self._used,
            self._failed,
            self._last_ms,
            time.time(),
        )

    async def close(self) -> None:  # noqa: B027 nothing to do is what it does
        """Nothing is held."""
