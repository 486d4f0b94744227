"""One client of the Wyoming server. Whatever it sends, it harms itself at most."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.tts import Synthesize
from wyoming.wake import Detect, Detection, NotDetected

from appliance.core.voice.model import NO_SENTENCES, RATE, WIDTH
from appliance.core.voice.wyoming.client import parsed
from appliance.core.voice.wyoming.convert import Converter
from appliance.core.voice.wyoming.describing import describe, wake_name
from appliance.core.voice.wyoming.wire import ClosedError, NonsenseError, read_event
from appliance.errors import ApplianceError, VoiceError

if TYPE_CHECKING:
    from appliance.core.voice.wyoming.server import Ears, WyomingServer

log = logging.getLogger(__name__)

TEXT = 4000
"""Most characters that are spoken for a client."""
SLOW = 10.0
"""Seconds in which a client must take what is sent to it."""
PIECE = 2048
"""Bytes of sound in an event that is sent."""
ORIGIN = "wyoming"
"""Stands for the utterance in the ledger."""


class Session:
    """One connection.

    Args:
        server: Whose client it is.
        reader: From it.
        writer: To it.
    """

    def __init__(self, server: WyomingServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._ground = server.ground
        self._reader = reader
        self._writer = writer
        self._converter: Converter | None = None
        self._heard = bytearray()
        self._seconds = 0.0
        self._refused = False
        """This utterance is too long, and the client was told so."""
        self._ears: Ears | None = None
        self._listens_for: tuple[str, ...] = ()
        self._detected = False

    @property
    def peer(self) -> str:
        """Its address."""
        name = self._writer.get_extra_info("peername")
        return str(name[0]) if name else ""

    async def run(self) -> None:
        """Serve it until it goes, talks nonsense, or says nothing for too long."""
        try:
            while await self._next():
                pass
        except ClosedError:
            log.debug("a Wyoming client went away: %s", self.peer)
        except VoiceError as error:
            log.info("a Wyoming client is let go of: %s: %s", self.peer, error.message)
            await self._tell(error)
        finally:
            if self._server.satellite is not None:
                self._server.satellite.detach(self)

    async def write(self, event: Event) -> None:
        """Send it something. Raises VoiceError where it does not take it."""
        try:
            async with asyncio.timeout(SLOW):
                await async_write_event(event, self._writer)
        except (OSError, TimeoutError) as error:
            raise ClosedError from error

    def close(self) -> None:
        """Let go of it, once it has what was sent; at once where it takes nothing."""
        self._writer.close()
        asyncio.get_running_loop().call_later(SLOW, self._writer.transport.abort)

    async def _next(self) -> bool:
        """Serve the next event; False at the end."""
        satellite = self._server.satellite
        mine = satellite is not None and satellite.owner is self
        try:
            async with asyncio.timeout(satellite.patience if satellite is not None and mine else self._ground.idle_seconds):
                event = await read_event(self._reader)
        except TimeoutError:
            log.info("a Wyoming client said nothing for too long: %s", self.peer)
            return False
        try:
            await self._serve(event)
        except (NonsenseError, ClosedError):
            raise
        except ApplianceError as error:
            await self._tell(error)
        except Exception as error:
            log.exception("a Wyoming client's %.40r was not served: %s", event.type, self.peer)
            await self._tell(VoiceError(f"It was not served: {type(error).__name__}."))
            return False
        return True

    async def _tell(self, error: ApplianceError) -> None:
        try:
            await self.write(Error(error.message, error.code).event())
        except ClosedError:
            log.debug("a Wyoming client went away before it could be told: %s", error.message)

    async def _serve(self, event: Event) -> None:
        kind = event.type
        satellite = self._server.satellite
        if Describe.is_type(kind):
            await self.write(describe(self._ground, satellite is not None).event())
        elif Ping.is_type(kind):
            await self.write(Pong(parsed(lambda: Ping.from_event(event), event).text).event())
            if satellite is not None and satellite.owner is self:
                satellite.pinged = True
        elif RunSatellite.is_type(kind) or PauseSatellite.is_type(kind):
            if satellite is None:
                raise VoiceError("This appliance is no satellite.", "set wyoming.satellite = true there.")
            satellite.attach(self, ready=RunSatellite.is_type(kind))
        elif satellite is not None and satellite.owner is self:
            await satellite.told(event)
        else:
            await self._work(event)

    async def _work(self, event: Event) -> None:
        kind = event.type
        if Transcribe.is_type(kind):
            self._ears = None
            self._forget()
        elif Detect.is_type(kind):
            await self._listen(parsed(lambda: Detect.from_event(event), event))
        elif AudioStart.is_type(kind):
            start = parsed(lambda: AudioStart.from_event(event), event)
            await self._begin(start.rate, start.width, start.channels)
        elif AudioChunk.is_type(kind):
            await self._hear(parsed(lambda: AudioChunk.from_event(event), event))
        elif AudioStop.is_type(kind):
            await self._end()
        elif Synthesize.is_type(kind):
            await self._speak(parsed(lambda: Synthesize.from_event(event), event).text)

    # -- speech to text, and wake words --------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._converter = None
        self._heard = bytearray()
        self._seconds = 0.0
        self._refused = self._detected = False

    async def _begin(self, rate: Any, width: Any, channels: Any) -> Converter:
        self._forget()
        self._converter = made = await asyncio.to_thread(Converter, rate, width, channels, RATE)  # it may load libraries
        return made

    async def _listen(self, detect: Detect) -> None:
        if self._ground.ears is None:
            raise VoiceError("This appliance has no model of a wake word.", "install what voice.wake_words needs there.")
        ears = await asyncio.to_thread(self._ground.ears)
        names = detect.names if isinstance(detect.names, list) else []
        wanted = {wake_name(str(name)) for name in names}
        self._listens_for = tuple(each for each in ears.phrases if not wanted or wake_name(each) in wanted)
        if not self._listens_for:
            raise VoiceError(f"This appliance hears none of {', '.join(sorted(wanted))[:200]}.", "ask it with `describe`.")
        self._ears = ears
        self._forget()

    async def _hear(self, chunk: AudioChunk) -> None:
        given = (chunk.rate, chunk.width, chunk.channels)
        converter = self._converter
        if converter is None or converter.format != given:
            if self._heard:
                raise NonsenseError("sound that changes its format in the middle")
            converter = await self._begin(*given)
        if self._ears is not None:
            await self._wake(self._ears, await asyncio.to_thread(converter.feed, chunk.audio))
            return
        if self._refused:  # what still comes of it is let go by
            return
        self._seconds += len(chunk.audio) * converter.seconds_of
        if self._seconds > self._ground.utterance_seconds:
            self._refused, self._heard = True, bytearray()
            most = self._ground.utterance_seconds
            raise VoiceError(f"An utterance of more than {most:g} s is not recognised.", "send it in pieces.")
        self._heard += await asyncio.to_thread(converter.feed, chunk.audio)

    async def _wake(self, ears: Ears, pcm: bytes) -> None:
        for hit in await asyncio.to_thread(ears.feed, pcm):
            if hit.phrase in self._listens_for:
                self._detected = True
                await self.write(Detection(name=wake_name(hit.phrase)).event())

    async def _end(self) -> None:
        if self._ears is not None:
            heard, self._ears = self._detected, None
            self._forget()
            if not heard:
                await self.write(NotDetected().event())
            return
        if self._converter is None:
            raise NonsenseError("audio-stop before any sound")
        if self._refused:
            self._forget()
            return
        pcm = bytes(self._heard) + await asyncio.to_thread(self._converter.feed, b"", last=True)
        self._forget()
        text = ""
        if len(pcm) >= WIDTH:
            async with self._server.hears:
                text = (await self._ground.engines.transcribe(pcm, NO_SENTENCES, ORIGIN)).text
        await self.write(Transcript(text, language=self._ground.language).event())

    # -- text to speech ------------------------------------------------------------------------------------------------

    async def _speak(self, text: Any) -> None:
        if not isinstance(text, str) or len(text) > TEXT:
            raise VoiceError(f"A text of more than {TEXT} characters is not spoken.", "send it in pieces.")
        if not text.strip():
            raise VoiceError("There is nothing to say.")
        async with self._server.speaks:
            speech = await self._ground.engines.synthesize(text, ORIGIN)
        await self.write(AudioStart(speech.rate, WIDTH, 1).event())
        for start in range(0, len(speech.pcm), PIECE):
            await self.write(AudioChunk(speech.rate, WIDTH, 1, speech.pcm[start : start + PIECE]).event())
        await self.write(AudioStop().event())
