"""What the voice asks of engines, on this machine or elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from appliance.core.voice.model import EngineStatus, Place, Sentences, Speech, Transcript


class SpeechToText(Protocol):
    """Turns an utterance into text."""

    name: str
    place: Place

    async def transcribe(self, pcm: bytes, sentences: Sentences) -> Transcript:
        """Recognise one utterance.

        Args:
            pcm: Mono, 16 bit, core.voice.model.RATE.
            sentences: What may be said; an engine that can weighs them too (`Transcript.guesses`), others pass over them.

        Raises:
            VoiceError: It failed, or does not answer; AbsentError: it is not installed.
        """

    async def check(self) -> EngineStatus:
        """Look at its health, cheaply."""

    async def close(self) -> None:
        """Let go of it."""


class TextToSpeech(Protocol):
    """Turns text into sound."""

    name: str
    place: Place

    async def synthesize(self, text: str) -> Speech:
        """Make the sound of a sentence or two. Raises VoiceError, AbsentError."""

    async def check(self) -> EngineStatus:
        """Look at its health, cheaply."""

    async def close(self) -> None:
        """Let go of it."""


class WakeService(Protocol):
    """Hears wake words elsewhere, in a stream of sound."""

    name: str
    place: Place

    async def detect(self, frames: AsyncIterator[bytes], phrases: tuple[str, ...]) -> str:
        """The phrase that was heard, or "" where the stream ended. Raises VoiceError."""

    async def check(self) -> EngineStatus:
        """Look at its health, cheaply."""

    async def close(self) -> None:
        """Let go of it."""


class Engines(Protocol):
    """All engines in the operator's order, each falling back to the next; what leaves the house is in the ledger."""

    async def transcribe(self, pcm: bytes, sentences: Sentences, utterance_id: str = "") -> Transcript:
        """Ask the first that is well; then the next. Raises VoiceError where none answers."""

    async def synthesize(self, text: str, utterance_id: str = "") -> Speech:
        """Likewise. Raises VoiceError where none answers."""

    def statuses(self) -> tuple[EngineStatus, ...]:
        """Of all."""

    def degraded(self) -> str:
        """What does not work as it should, as one spoken sentence: "The cloud is away; I can do local commands."; or empty."""
