"""Speaking: sentence by sentence, the next one made while the one before is heard; silent at once where it is asked."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable

from appliance.core.observe.spans import child
from appliance.core.ports import Speaker
from appliance.core.voice.engine import Engines
from appliance.core.voice.local.sentences import split
from appliance.core.voice.model import Place, Speech
from appliance.errors import AbsentError, ApplianceError, DeviceError, VoiceError

log = logging.getLogger(__name__)

AHEAD = 2
"""Sentences that are made before they are heard."""
CHUNK = 4096
"""Bytes that are given to the speaker at a time."""
ECHO = 1.5
"""Seconds after it has spoken in which its own words do not wake it."""
UNPLAYED = 20.0
"""Seconds beyond its own length that a sentence may take to be played."""


class Answer:
    """One answer on its way to the ear. Sentences are added until `close`.

    Args:
        mouth: Speaks it.
        utterance_id: That it answers, for the ledger.
    """

    def __init__(self, mouth: Mouth, utterance_id: str) -> None:
        self._mouth = mouth
        self._id = utterance_id
        self._texts: asyncio.Queue[str | None] = asyncio.Queue()
        self._made: asyncio.Queue[Speech | None] = asyncio.Queue(AHEAD)
        self._closed = False
        self._next: Speech | None = None
        self.said: list[str] = []
        self.first_made: float | None = None
        """Monotonic, when the first of its sound was there."""
        self.first_heard: float | None = None
        self.tts_ms: float | None = None
        """Of its first sentence."""
        self.seconds = 0.0
        """That were heard."""
        self.stopped = False
        self.problem = ""
        """Why it was not heard, or not all of it."""
        self.next_step = ""
        """What to do about that."""
        self.fell_back: tuple[str, ...] = ()
        self.engine, self.place = "", Place.local
        self._task = asyncio.create_task(self._run(), name="voice speaks")

    def add(self, text: str) -> None:
        """One more sentence, or several."""
        for part in split(text):
            self.said.append(part)
            self._texts.put_nowait(part)

    def close(self) -> None:
        """Nothing more comes."""
        if not self._closed:
            self._closed = True
            self._texts.put_nowait(None)

    async def wait(self) -> None:
        """Until all of it was heard, or it was stopped."""
        self.close()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.result()

    async def stop(self) -> None:
        """Be silent at once."""
        self.stopped = True
        self._mouth.hush()
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        making = asyncio.create_task(self._make(), name="voice makes sound")
        try:
            await self._play()
        except (ApplianceError, TimeoutError) as error:
            self._fail(error)
        finally:
            self._mouth.silent()
            making.cancel()
            await asyncio.wait({making})

    def _fail(self, error: Exception) -> None:
        why = error.message if isinstance(error, ApplianceError) else "the speaker does not answer"
        if not self.problem:
            self.problem = f"not said aloud: {why}".rstrip(".")
            self.next_step = error.next_step if isinstance(error, ApplianceError) else ""
        log.warning("%s", self.problem)

    async def _make(self) -> None:
        try:
            while (text := await self._texts.get()) is not None:
                speech = await self._sound(text)
                if speech is not None and speech.pcm:
                    await self._made.put(speech)
        except Exception as error:  # else whoever plays would wait for ever
            log.exception("speech could not be made")
            self._fail(VoiceError(f"the sound could not be made ({type(error).__name__})."))
        await self._made.put(None)

    async def _sound(self, text: str) -> Speech | None:
        began = self._mouth.now()
        try:
            with child("voice tts", {"prime_spark.characters": len(text)}):
                speech = await self._mouth.engines().synthesize(text, self._id)
        except ApplianceError as error:
            self._fail(error)
            return None
        self.fell_back = self.fell_back or speech.fell_back
        self.engine, self.place = speech.engine, speech.place
        if self.first_made is None:
            self.first_made = self._mouth.now()
            self.tts_ms = (self.first_made - began) * 1000
        return speech

    async def _play(self) -> None:
        self._next = await self._made.get()
        while self._next is not None:
            rate = self._next.rate
            speaker = self._mouth.speaker()
            if speaker is None:
                raise AbsentError("there is no speaker.", "connect one; see `prime-spark voice devices`.")
            self.seconds += await self._bounded(speaker, rate)

    async def _bounded(self, speaker: Speaker, rate: int) -> float:
        """Play what has this rate; a speaker that takes nothing is given up."""
        self._fed = self._mouth.now()
        playing = asyncio.create_task(speaker.play(self._pcm(rate), rate, self._heard), name="voice plays")
        try:
            while not playing.done():
                await asyncio.wait({playing}, timeout=1.0)
                if not playing.done() and self._mouth.now() > self._fed + UNPLAYED:
                    raise DeviceError("the speaker takes no sound.", "see `prime-spark voice devices`.")
            return playing.result()
        finally:
            if not playing.done():
                self._mouth.hush()
                playing.cancel()
                await asyncio.wait({playing}, timeout=2.0)

    async def _pcm(self, rate: int) -> AsyncIterator[bytes]:
        while self._next is not None and self._next.rate == rate:
            speech, pcm = self._next, memoryview(self._next.pcm)
            self._mouth.says(" ".join(self.said))
            for start in range(0, len(pcm), CHUNK):
                self._fed = self._mouth.now() + speech.seconds
                yield bytes(pcm[start : start + CHUNK])
            self._fed = float("inf")  # the next sentence may be long in coming
            self._next = await self._made.get()
            self._fed = self._mouth.now() + speech.seconds

    def _heard(self) -> None:
        if self.first_heard is None:
            self.first_heard = self._mouth.now()


class Mouth:
    """Says things, one at a time.

    Args:
        engines: Make sound of text; loaded when it is first asked for.
        speaker: Where it goes; None where nothing shall be heard.
        tone: Makes the sound of a tone: "listening", "done", "trouble".
        now: The monotonic clock.
    """

    def __init__(
        self,
        engines: Callable[[], Engines],
        speaker: Callable[[], Speaker | None],
        tone: Callable[[str], Speech],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engines = engines
        self.speaker = speaker
        self.now = now
        self._tone = tone
        self._alone = asyncio.Lock()
        self._saying, self._silent_since = "", 0.0

    def answer(self, utterance_id: str = "") -> Answer:
        """Begin one."""
        return Answer(self, utterance_id)

    @property
    def saying(self) -> str:
        """What is being said now, or was until a moment ago: a room echoes."""
        return self._saying if self.now() - self._silent_since < ECHO else ""

    def says(self, text: str) -> None:
        """That is heard from now on."""
        self._saying, self._silent_since = text, float("inf")

    def silent(self) -> None:
        """Nothing is heard any more."""
        if self._saying:
            self._silent_since = self.now()

    def hush(self) -> None:
        """Be silent."""
        speaker = self.speaker()
        if speaker is not None:
            speaker.stop()

    async def tone(self, kind: str) -> None:
        """Play a tone; a speaker that is away is no reason to stop anything."""
        speaker = self.speaker()
        if speaker is None or self._alone.locked():
            return
        async with self._alone:
            speech = await asyncio.to_thread(self._tone, kind)

            async def pcm() -> AsyncIterator[bytes]:
                yield speech.pcm

            try:
                async with asyncio.timeout(speech.seconds + 3.0):
                    await speaker.play(pcm(), speech.rate)
            except (ApplianceError, TimeoutError) as error:
                log.debug("the tone %s was not heard: %s", kind, error)

    async def play(self, pcm: bytes, rate: int) -> float:
        """Play a recording; returns the seconds that were heard. Raises AbsentError, DeviceError."""

        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(pcm), CHUNK):
                yield pcm[start : start + CHUNK]

        return await self.stream(parts(), rate)

    async def stream(self, pcm: AsyncIterator[bytes], rate: int) -> float:
        """Likewise, as it comes."""
        speaker = self.speaker()
        if speaker is None:
            raise AbsentError("There is no speaker.", "name one in voice.speaker; see `prime-spark voice devices`.")
        return await speaker.play(pcm, rate)
