"""Engines of the voice that are Wyoming servers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from wyoming.asr import Transcribe
from wyoming.asr import Transcript as Told
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.info import AsrProgram, TtsProgram, WakeProgram
from wyoming.tts import Synthesize, SynthesizeVoice
from wyoming.wake import Detect, Detection, NotDetected

from appliance.core.printable import printable
from appliance.core.voice.ledger import WithheldError
from appliance.core.voice.model import FRAME_SECONDS, RATE, WIDTH, Sentences, Speech, Transcript
from appliance.core.voice.wyoming.client import Client, awaited, parsed
from appliance.core.voice.wyoming.convert import Converter
from appliance.core.voice.wyoming.link import CHUNK, Link, Sent, deadline, dial
from appliance.core.voice.wyoming.wire import NonsenseError
from appliance.errors import VoiceError
from appliance.settingvoice import VoiceService

LONGEST = 180.0
"""Most seconds of sound that a text becomes."""
TEXT = 10_000
"""Most characters of a transcript."""


class RemoteSpeechToText(Client[AsrProgram]):
    """Recognises elsewhere (engine.SpeechToText)."""

    def __init__(self, name: str, settings: VoiceService, language: str = "en") -> None:
        super().__init__(name, settings, "stt", settings.model)
        self._language = language.partition("-")[0]

    async def transcribe(self, pcm: bytes, sentences: Sentences, sent: Sent | None = None) -> Transcript:
        """Send one utterance, in pieces; `sent` is kept up as it goes. Raises VoiceError."""
        del sentences  # the protocol has no grammar
        began = time.monotonic()
        async with self._link() as link:
            hears = asyncio.ensure_future(awaited(link, Told.is_type))
            sends = asyncio.ensure_future(self._send(link, pcm, sent or Sent()))
            async with both(hears, sends):
                if not sends.done():
                    hears.result()
                    raise VoiceError("It answered before it had heard all.", "see its log; it must not end utterances itself.")
                event = await hears
        text = parsed(lambda: Told.from_event(event).text, event)
        if not isinstance(text, str) or len(text) > TEXT:
            raise NonsenseError("a transcript that is no text, or endless")
        took = 1000 * (time.monotonic() - began)
        return Transcript(printable(text.strip()), self.name, self.place, seconds=len(pcm) / WIDTH / RATE, took_ms=took)

    async def _send(self, link: Link, pcm: bytes, sent: Sent) -> None:
        link.unhurried()
        await link.write_event(Transcribe(name=self.wanted or None, language=self._language).event())
        await link.write_event(AudioStart(RATE, WIDTH, 1).event())
        for start in range(0, len(pcm), CHUNK):
            await link.write_sound(pcm[start : start + CHUNK], sent)
            await asyncio.sleep(0)  # what it says meanwhile is heard
        await link.write_event(AudioStop().event())


@contextlib.asynccontextmanager
async def both(hears: asyncio.Future[Any], sends: asyncio.Future[Any]) -> AsyncIterator[None]:
    """Go on once one of them is done, and end with both. Raises what the sending raises, unless the server told more."""
    try:
        await asyncio.wait((hears, sends), return_when=asyncio.FIRST_COMPLETED)
        if sends.done() and sends.exception() is not None:
            if hears.done():
                hears.result()
            sends.result()
        yield
    finally:
        hears.cancel()
        sends.cancel()
        await asyncio.gather(hears, sends, return_exceptions=True)


class RemoteTextToSpeech(Client[TtsProgram]):
    """Speaks elsewhere (engine.TextToSpeech)."""

    def __init__(self, name: str, settings: VoiceService) -> None:
        super().__init__(name, settings, "tts", settings.voice)

    async def synthesize(self, text: str, sent: Sent | None = None) -> Speech:
        """Send a text, and take its sound. Raises VoiceError."""
        began = time.monotonic()
        sent = sent or Sent()
        async with self._link() as link:
            if why := sent.barred():
                raise WithheldError(f"Nothing more is sent: {why}.")
            sent.text = len(text.encode())
            await link.write_event(Synthesize(text, SynthesizeVoice(self.wanted) if self.wanted else None).event())
            pcm, rate = await self._take(link)
        return Speech(pcm, rate, self.name, self.place, took_ms=1000 * (time.monotonic() - began))

    async def _take(self, link: Link) -> tuple[bytes, int]:
        begin = await awaited(link, AudioStart.is_type, AudioChunk.is_type, AudioStop.is_type)
        if not AudioStart.is_type(begin.type):
            raise NonsenseError(f"{begin.type} before any audio-start")
        start = parsed(lambda: AudioStart.from_event(begin), begin)
        converter = Converter(start.rate, start.width, start.channels)
        pieces, seconds = [], 0.0
        while True:
            event = await awaited(link, AudioChunk.is_type, AudioStop.is_type)
            if AudioStop.is_type(event.type):
                break
            sound = event.payload or b""
            seconds += len(sound) * converter.seconds_of
            if seconds > LONGEST:
                raise NonsenseError(f"more than {LONGEST:g} s of sound for a sentence")
            pieces.append(converter.feed(sound) if converter.plain else await asyncio.to_thread(converter.feed, sound))
        pcm = b"".join(pieces)
        if not pcm:
            raise VoiceError("It made no sound of the text.", "see its log, and its voice.")
        return pcm, converter.rate


class RemoteWake(Client[WakeProgram]):
    """Hears wake words elsewhere (engine.WakeService)."""

    def __init__(self, name: str, settings: VoiceService) -> None:
        super().__init__(name, settings, "wake")

    async def detect(
        self, frames: AsyncIterator[bytes], phrases: tuple[str, ...], sent: Sent | None = None,
        before: Callable[[int], Awaitable[None]] | None = None,
    ) -> str:  # fmt: skip
        """The phrase that was heard, or "" where the stream ended.

        Args:
            frames: Sound as it comes.
            phrases: What is listened for.
            sent: Is kept up as it goes.
            before: Told of so many bytes, before they are sent.

        Raises:
            VoiceError: It failed, takes no sound within its deadline, or says nothing so long after the end.
        """
        async with deadline(self._settings.timeout_seconds):
            link = await dial(self._settings.url, self.place)
        hears = asyncio.ensure_future(awaited(link, Detection.is_type, NotDetected.is_type))
        sends = asyncio.ensure_future(self._stream(link, frames, phrases, sent or Sent(), before))
        try:
            async with both(hears, sends), deadline(self._settings.timeout_seconds):
                event = await hears
        finally:
            link.close()
        if NotDetected.is_type(event.type):
            return ""
        return _phrase(parsed(lambda: Detection.from_event(event).name, event), phrases)

    async def _stream(
        self, link: Link, frames: AsyncIterator[bytes], phrases: tuple[str, ...], sent: Sent,
        before: Callable[[int], Awaitable[None]] | None,
    ) -> None:  # fmt: skip
        wait = self._settings.timeout_seconds
        link.unhurried()
        async with deadline(wait):
            await link.write_event(Detect([_name(each) for each in phrases]).event())
            await link.write_event(AudioStart(RATE, WIDTH, 1).event())
        async for pcm in frames:
            if before is not None:
                await before(len(pcm))
            async with deadline(wait + FRAME_SECONDS):
                await link.write_sound(pcm, sent)
        async with deadline(wait):
            await link.write_event(AudioStop().event())


def _name(phrase: str) -> str:
    return phrase.lower().replace(" ", "_")


def _phrase(name: object, phrases: tuple[str, ...]) -> str:
    """Which of ours a model's name is: "hey_spark_v0.1" is "hey spark"."""
    told = _name(str(name or ""))
    return next((each for each in phrases if told.startswith(_name(each))), "" if name else phrases[0] if phrases else "")
