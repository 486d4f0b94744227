"""The appliance's microphone and speaker for another machine: what follows the wake word goes there, its answer is heard.

As wyoming-satellite with local wake words does it: the other side connects and says run-satellite; after the wake word it gets
detection, run-pipeline and the sound, until it tells the transcript or an error. Its sound is played, and then it is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.snd import Played
from wyoming.wake import Detection

from appliance.core.printable import printable
from appliance.core.voice.model import RATE, WIDTH
from appliance.core.voice.wyoming.client import parsed
from appliance.core.voice.wyoming.convert import Converter
from appliance.core.voice.wyoming.describing import wake_name
from appliance.core.voice.wyoming.link import is_outside
from appliance.core.voice.wyoming.wire import ClosedError, NonsenseError
from appliance.errors import ApplianceError, VoiceError

if TYPE_CHECKING:
    from appliance.core.voice.wyoming.session import Session

log = logging.getLogger(__name__)

SILENCE = 30.0
"""A server that has pinged and says nothing for so many seconds is gone."""
WORDS = 15.0
"""Seconds after the end of the sound in which the transcript must come."""
TEXT = 10_000
"""Most characters of a transcript that are kept."""
ROOM = 8 * 2**20
"""Bytes of its sound that wait to be played; while there are more, nothing is read from it."""
Play = Callable[[AsyncIterator[bytes], int], Awaitable[float]]


class _Playing:
    """Sound of the server on its way to the speaker."""

    def __init__(self, converter: Converter) -> None:
        self.converter = converter
        self.waiting = 0
        self._over = False
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, sound: bytes) -> None:
        """Take the next piece; an empty one is the end."""
        await self._room.wait()
        if self._over:
            return
        self.waiting += len(sound)
        self._pieces.put_nowait(sound)
        if self.waiting > ROOM:
            self._room.clear()

    async def pieces(self) -> AsyncIterator[bytes]:
        """As they come, until the end."""
        while sound := await self._pieces.get():
            self.waiting -= len(sound)
            if self.waiting <= ROOM:
                self._room.set()
            yield sound

    def over(self) -> None:
        """Nobody takes any more of it: what comes still is let go by."""
        self._over = True
        self._room.set()


class Satellite:
    """Has one server at a time: the first that says run-satellite, until it goes."""

    def __init__(self) -> None:
        self.owner: Session | None = None
        """The server's connection."""
        self.pinged = False
        """It looks whether we are there, so its silence says that it is not."""
        self.play: Play | None = None
        """Plays mono 16-bit sound of so many samples a second as it comes; returns the seconds that were heard."""
        self.stop: Callable[[], None] = lambda: None
        """Silences `play` at once."""
        self._ready = False
        self._answer: asyncio.Future[str] | None = None
        self._playing: _Playing | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """A server is there."""
        return self.owner is not None

    @property
    def active(self) -> bool:
        """A server is there, and ready for an utterance."""
        return self.owner is not None and self._ready

    @property
    def peer(self) -> str:
        """Its address; empty for none."""
        return self.owner.peer if self.owner is not None else ""

    @property
    def patience(self) -> float | None:
        """Seconds that the server may say nothing; None for any."""
        return SILENCE if self.pinged else None

    async def hear(self, frames: AsyncIterator[bytes], phrase: str) -> str:
        """Send it an utterance; returns the words that it heard, "" for none. Its answer is played as it comes.

        Args:
            frames: The sound after the wake word (mono, 16 bit, core.voice.model.RATE), until nothing more is said.
            phrase: The wake word.

        Raises:
            VoiceError: No server is there, it went away, refused, or did not tell what it heard.
        """
        owner = self.owner
        if owner is None or not self._ready:
            raise VoiceError("No server is ready for what is said.", "see whether it is connected.")
        if self._answer is not None:
            raise VoiceError("An utterance is under way.", "wait for its end.")
        self._answer = asyncio.get_running_loop().create_future()
        sends = asyncio.ensure_future(self._send(owner, frames, phrase))
        try:
            await asyncio.wait((self._answer, sends), return_when=asyncio.FIRST_COMPLETED)
            if not self._answer.done():
                sends.result()
            async with asyncio.timeout(WORDS):
                return await self._answer
        except TimeoutError as error:
            raise VoiceError(f"The server did not tell within {WORDS:g} s what it heard.", "see its log.") from error
        finally:
            sends.cancel()
            self._answer.cancel()
            await asyncio.gather(sends, self._answer, return_exceptions=True)
            self._answer = None

    # -- for the session -----------------------------------------------------------------------------------------------

    def attach(self, session: Session, *, ready: bool) -> None:
        """A server takes the satellite, or lets it rest. Raises VoiceError where it may not."""
        if is_outside(session.peer):
            told = f"{session.peer} is not in the house: the microphone's sound does not go there."
            raise VoiceError(told, "connect from an address of the house or of its VPN.")
        if self.owner not in {None, session}:
            raise VoiceError("Another server has this satellite.", "disconnect that one first.")
        if self.owner is None:
            self.pinged = False
        self.owner, self._ready = session, ready
        if not ready:
            self._over(VoiceError("The server pauses its satellites.", "see there."))

    def detach(self, session: Session) -> None:
        """A connection ended."""
        if self.owner is not session:
            return
        self.owner, self._ready = None, False
        self._over(ClosedError())
        playing, self._playing = self._playing, None
        if playing is not None:
            self.stop()
            for task in self._tasks:
                task.cancel()

    async def told(self, event: Event) -> None:
        """The server said something. Raises VoiceError where it is nonsense."""
        kind = event.type
        if Transcript.is_type(kind):
            text = parsed(lambda: Transcript.from_event(event), event).text
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(printable(str(text)[:TEXT]))
        elif Error.is_type(kind):
            told = parsed(lambda: Error.from_event(event), event).text
            self._over(VoiceError(f"The server refused: {printable(str(told)[:200])}.", "see its log."))
        elif AudioStart.is_type(kind):
            start = parsed(lambda: AudioStart.from_event(event), event)
            await self._begin(start.rate, start.width, start.channels)
        elif AudioChunk.is_type(kind):
            if self._playing is None:
                raise NonsenseError("audio-chunk before audio-start")
            playing, given = self._playing, event.payload or b""
            feed = playing.converter.feed
            if sound := feed(given) if playing.converter.plain else await asyncio.to_thread(feed, given):
                await playing.put(sound)
        elif AudioStop.is_type(kind) and self._playing is not None:
            playing, self._playing = self._playing, None
            await playing.put(b"")

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _send(self, owner: Session, frames: AsyncIterator[bytes], phrase: str) -> None:
        await owner.write(Detection(name=wake_name(phrase)).event())
        end = PipelineStage.TTS if self.play is not None else PipelineStage.HANDLE
        await owner.write(RunPipeline(PipelineStage.ASR, end, wake_word_name=wake_name(phrase)).event())
        async for pcm in frames:
            await owner.write(AudioChunk(RATE, WIDTH, 1, pcm).event())
        await owner.write(AudioStop().event())

    def _over(self, error: VoiceError) -> None:
        """The utterance under way gets no words any more."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    async def _begin(self, rate: Any, width: Any, channels: Any) -> None:
        if self._playing is not None:  # a new one ends the one before
            await self._playing.put(b"")
        self._playing = _Playing(Converter(rate, width, channels))
        task = asyncio.create_task(self._play(self._playing, self.owner), name="voice: sound of the server")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, playing: _Playing, owner: Session | None) -> None:
        try:
            if self.play is not None:
                await self.play(playing.pieces(), playing.converter.rate)
        except ApplianceError as error:
            log.warning("the sound of the Wyoming server was not played: %s", error)
        finally:
            playing.over()
        if owner is not None and owner is self.owner:
            with contextlib.suppress(ClosedError):  # it is gone: nobody waits to be told
                await owner.write(Played().event())
