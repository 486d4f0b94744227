"""A recognition and an understanding that a test tells what to do: for what real ones do seldom, or never."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.core.model import Actor, Health
from appliance.core.voice.model import EngineStatus, Hit, Outcome, Place, Reply, Sentences, Transcript
from appliance.errors import VoiceError

SENTENCES = Sentences("test", ("what is the battery level", "restart the gateway"))


class ScriptedHearing:
    """Recognises what it is told to (engine.SpeechToText, and `spot`)."""

    name = "local"
    place = Place.local

    def __init__(self) -> None:
        self.words: deque[str] = deque()
        """Of the next recognitions; the last one stays."""
        self.hits: deque[float] = deque()
        """Scores of the next looks for the wake word; 0 beyond."""
        self.lengths: list[float] = []
        """Seconds of what was recognised."""
        self.looked: list[float] = []
        self.failing = False
        self.closed = 0
        self.wanted: Sentences | None = None

    async def transcribe(self, pcm: bytes, sentences: Sentences) -> Transcript:
        self.lengths.append(len(pcm) / 32000)
        self.wanted = sentences
        await asyncio.sleep(0.01)
        if self.failing:
            raise VoiceError("the recognition was killed.", "wait.")
        text = self.words.popleft() if len(self.words) > 1 else (self.words[0] if self.words else "")
        return Transcript(text, self.name, took_ms=10.0, seconds=len(pcm) / 32000)

    async def spot(self, pcm: bytes, phrases: tuple[str, ...]) -> tuple[Hit, ...]:
        if not any(pcm):  # it is loaded
            return (Hit(phrases[0], 0.0, "speech recognition"),)
        self.looked.append(len(pcm) / 32000)
        return (Hit(phrases[0], self.hits.popleft() if self.hits else 0.0, "speech recognition"),)

    async def check(self) -> EngineStatus:
        health = Health.unhealthy if self.failing else Health.healthy
        return EngineStatus(self.name, "stt", self.place, health, "killed" if self.failing else "loaded")

    async def close(self) -> None:
        self.closed += 1


class ScriptedTalker:
    """Understands nothing, and answers as told (ground.Talker)."""

    def __init__(self) -> None:
        self.expecting = ""
        self.replies: deque[Reply] = deque()
        self.heard: list[tuple[str, Actor]] = []
        self.forgot = self.prepared = 0
        self.sure = False
        self.streams: tuple[str, ...] = ()
        self.going: asyncio.Event | None = None

    async def prepare(self) -> None:
        self.prepared += 1

    def sentences(self) -> Sentences:
        return SENTENCES

    def whole(self, transcript: Transcript) -> bool:
        return self.sure and transcript.text in SENTENCES.texts

    async def hear(
        self, transcript: Transcript, actor: Actor, on_begin: Callable[[str], None],
        on_sentence: Callable[[str], Awaitable[None]],
    ) -> Reply:  # fmt: skip
        self.heard.append((transcript.text, actor))
        reply = self.replies.popleft() if self.replies else Reply("Done.", Outcome.done, action="power.status")
        if reply.action:
            on_begin(reply.action)
        for sentence in self.streams:
            await on_sentence(sentence)
        if self.going is not None:
            await self.going.wait()
        self.expecting = reply.expects
        return reply

    async def forget(self) -> Reply | None:
        self.forgot += 1
        waited, self.expecting = self.expecting, ""
        return Reply("Nothing was done.", Outcome.declined) if waited else None

    def phrases(self) -> Any:
        return ()
