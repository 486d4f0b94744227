"""Speech to text on this machine, by a process of its own that is started when it is first needed."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from appliance.core.model import Health
from appliance.core.ports import Clock
from appliance.core.voice.local import files, wire
from appliance.core.voice.local.child import STEP, AnswerError, Child, EndedError
from appliance.core.voice.local.deciding import wake_score
from appliance.core.voice.model import RATE, WIDTH, EngineStatus, Guess, Hit, Place, Sentences, Transcript
from appliance.errors import AbsentError, VoiceError

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds that an answer may take, beside the length of the sound."""
FIRST_REST = 0.5
LONGEST_REST = 30.0
"""Seconds of rest after failures one after the other; after the first one there is none."""
HEARD_BY = "speech recognition"


class LocalSpeechToText:
    """Moonshine tiny, held to the sentences of the grammar where there are any.

    Args:
        models: Directory of models, which has voice/moonshine-tiny-en.
        clock: For rests, and the time of the last look.
        environ: Environment variables of the process.
        threads: Processor threads, 1 or 2.
        patience: Seconds that an answer may take, beside the length of the sound.
    """

    name = "local"
    place = Place.local

    def __init__(
        self, models: Path, clock: Clock, environ: Mapping[str, str], threads: int = 2, patience: float = PATIENCE
    ) -> None:
        self._directory = (models / "voice" / files.NAME).absolute()  # the process has another working directory
        self._clock = clock
        self._environ = dict(environ)
        self._threads = threads
        self._patience = patience
        self._child: Child | None = None
        self._lock = asyncio.Lock()
        self._failures = 0
        """One after the other."""
        self._rests_until = 0.0
        self._closed = 0
        self._used = self._failed = 0
        self._last_ms: float | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, where it runs."""
        return self._child.pid if self.loaded and self._child is not None else None

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._child is not None and not self._child.gone

    async def transcribe(self, pcm: bytes, sentences: Sentences) -> Transcript:
        """As engine.SpeechToText has it. Raises VoiceError, AbsentError."""
        began, seconds = self._clock.monotonic(), len(pcm) / WIDTH / RATE

        async def work(child: Child) -> dict[str, Any]:
            return await self._hear(child, pcm, sentences)

        told = await self._counted(work)
        guesses = tuple(Guess(sentences.texts[number], score) for number, score in told["guesses"])
        took = 1000 * (self._clock.monotonic() - began)
        return Transcript(
            told["text"], self.name, self.place, told["score"], guesses, seconds, took, kept=bool(told.get("kept"))
        )

    async def spot(self, pcm: bytes, phrases: tuple[str, ...]) -> tuple[Hit, ...]:
        """Whether speech begins with a wake phrase.

        Args:
            pcm: About 1.2 to 2 s, from the beginning of the speech on.
            phrases: What to look for.

        Returns:
            A hit for each phrase, best first; the score is 0 to 1, and 0.5 a sensible threshold.

        Raises:
            VoiceError, AbsentError.
        """

        async def work(child: Child) -> dict[str, Any]:
            return await child.ask(self._limit(pcm), op="spot", pcm=pcm, phrases=phrases)

        told = await self._counted(work)
        scores = [0.0 if score is None else wake_score(score) for score in told["scores"]]
        hits = [Hit(phrase, score, HEARD_BY) for phrase, score in zip(phrases, scores, strict=True)]
        return tuple(sorted(hits, key=lambda hit: -hit.score))

    async def check(self) -> EngineStatus:
        """Look whether it answers; loads it where it is not loaded. One that is at work is not held up, and has a deadline."""
        if self.loaded and self._lock.locked():
            return self._status(Health.healthy, "It is at work.", "")
        try:
            async with self._lock:
                child = await self._running()
                await self._asked(child.ask(self._patience, op="ping"))
        except AbsentError as error:
            return self._status(Health.absent, error.message, error.next_step)
        except VoiceError as error:
            return self._status(Health.unhealthy, error.message, error.next_step)
        return self._status(Health.healthy, "It answers.", "")

    async def close(self) -> None:
        """End the process, also one that is just being started."""
        self._closed += 1
        if self._child is not None:
            await self._child.kill("it was closed")

    def _status(self, health: Health, reason: str, step: str) -> EngineStatus:
        return EngineStatus(
            self.name, "stt", self.place, health, reason, step, files.NAME, self._used, self._failed, self._last_ms,
            self._clock.wall(),
        )  # fmt: skip

    def _limit(self, pcm: bytes) -> float:
        return self._patience + len(pcm) / WIDTH / RATE

    async def _hear(self, child: Child, pcm: bytes, sentences: Sentences) -> dict[str, Any]:
        asked: dict[str, Any] = {"op": "hear", "pcm": pcm, "key": sentences.key, "said": sentences.said}
        try:
            return await child.ask(self._limit(pcm), **asked)
        except AnswerError as error:
            if error.kind != wire.UNKNOWN:
                raise
        return await child.ask(self._limit(pcm), **asked, texts=sentences.texts, before=sentences.before)

    async def _counted(self, work: Callable[[Child], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        async with self._lock:
            self._used += 1
            try:
                told = await self._tried(work)
            except (VoiceError, AbsentError):
                self._failed += 1
                raise
            if not told.get("kept"):
                self._last_ms = told["took_ms"]
            return told

    async def _tried(self, work: Callable[[Child], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Ask, and once more where the process ended at work: it need not have been the sound that ended it."""
        child = await self._running()
        try:
            return await self._asked(work(child))
        except EndedError:
            if self._failures > 1:  # it has failed before, and rests
                raise
        return await self._asked(work(await self._running()))

    async def _asked(self, answer: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        try:
            told = await answer
        except AnswerError as error:
            raise VoiceError(f"The speech recognition failed: {error}.", STEP) from error
        except VoiceError as error:
            self._rest(error)
            raise
        self._failures = 0
        return told

    async def _running(self) -> Child:
        """The process; started where it does not run. Raises VoiceError, AbsentError."""
        if self._child is not None and not self._child.gone:
            return self._child
        files.hashes(self._directory)
        left = self._rests_until - self._clock.monotonic()
        if left > 0:
            raise VoiceError(
                f"The speech recognition failed {self._failures} times.", f"it is tried again in {math.ceil(left)} s."
            )
        if self._child is not None:
            await self._child.kill()
        closed = self._closed
        try:
            child = await Child.started(self._directory, self._threads, self._environ)
        except VoiceError as error:
            self._rest(error)
            raise
        if closed != self._closed:
            await child.kill("it was closed")
            raise VoiceError(
                "The speech recognition was closed while it was started.", "it is started again when it is needed."
            )
        self._child = child
        return child

    def _rest(self, error: VoiceError) -> None:
        self._failures += 1
        if self._failures > 1:
            rest = min(LONGEST_REST, FIRST_REST * 2.0 ** min(self._failures - 2, 10))
            self._rests_until = self._clock.monotonic() + rest
        log.warning("%s", error.message)
