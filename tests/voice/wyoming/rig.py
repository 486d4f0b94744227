"""Real Wyoming servers built with the package, bad ones, and the tiers on top of them."""

from __future__ import annotations

import asyncio
import io
import wave
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info, TtsProgram, TtsVoice, WakeModel, WakeProgram
from wyoming.server import AsyncEventHandler, AsyncTcpServer, AsyncUnixServer
from wyoming.tts import Synthesize
from wyoming.wake import Detect, Detection, NotDetected

from appliance.core.model import Health
from appliance.core.store import Store
from appliance.core.voice.ledger import VoiceLedger
from appliance.core.voice.model import EngineStatus, Place, Sentences, Speech
from appliance.core.voice.model import Transcript as Heard
from appliance.core.voice.tiers import TieredEngines
from appliance.errors import VoiceError
from appliance.settingvoice import VoiceSettings
from tests.support import ManualClock, needs_program

PCM = bytes(range(256)) * 250
"""Two seconds: 64 000 bytes, 31 chunks and a bit."""
QUICK = (0.02, 0.05)
"""Seconds until an engine is looked at again."""
THIS = Attribution("test", "")


def words(pcm: bytes) -> str:
    """What the recogniser of these tests "hears": proof that each byte arrived."""
    return f"{len(pcm)} bytes {zlib.crc32(pcm):08x}"


async def espeak(text: str) -> tuple[bytes, int]:
    """Sound of a text by espeak-ng, and its rate."""
    program = needs_program("espeak-ng")
    child = await asyncio.create_subprocess_exec(program, "--stdout", "--", text, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    with wave.open(io.BytesIO(out)) as sound:
        return sound.readframes(sound.getnframes()), sound.getframerate()


def info() -> Info:
    """What the server of these tests offers."""
    plain: dict[str, Any] = {"attribution": THIS, "installed": True, "version": "1", "description": None}
    return Info(
        asr=[AsrProgram("stt", models=[AsrModel("checksum", languages=["en"], **plain)], **plain)],
        tts=[TtsProgram("tts", voices=[TtsVoice("en", languages=["en"], **plain)], **plain)],
        wake=[WakeProgram("wake", models=[WakeModel("hey_spark", languages=["en"], phrase="hey spark", **plain)], **plain)],
    )


class RealServer:
    """A server of the package, and what came to it."""

    def __init__(self) -> None:
        self.connections = 0
        self.audio = 0
        self.asked: list[str] = []
        self.url = ""
        self.slow = asyncio.Event()
        self.slow.set()
        self._server: Any = None

    async def start(self, where: str = "tcp://127.0.0.1:0") -> None:
        if where.startswith("unix:"):
            self._server, self.url = AsyncUnixServer(where.removeprefix("unix://")), where
            await self._server.start(partial(_Handler, self))
            return
        port = int(where.rpartition(":")[2])
        self._server = AsyncTcpServer("127.0.0.1", port)
        await self._server.start(partial(_Handler, self))
        self.url = f"tcp://127.0.0.1:{self._server._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        await self._server.stop()


class _Handler(AsyncEventHandler):
    def __init__(self, server: RealServer, *given: Any) -> None:
        super().__init__(*given)
        self._to = server
        self._pcm = b""
        self._listens = False
        server.connections += 1

    async def handle_event(self, event: Event) -> bool:
        self._to.asked.append(event.type)
        if Describe.is_type(event.type):
            await self.write_event(info().event())
        elif Detect.is_type(event.type):
            self._listens = True
        elif Transcribe.is_type(event.type):
            self._listens = False
        elif AudioChunk.is_type(event.type):
            self._pcm += event.payload or b""
            self._to.audio += len(event.payload or b"")
            if self._listens and b"hey spark" in self._pcm:
                await self.write_event(Detection("hey_spark_v0.1").event())
        elif AudioStop.is_type(event.type):
            await self._to.slow.wait()
            await self.write_event(NotDetected().event() if self._listens else Transcript(words(self._pcm)).event())
        elif Synthesize.is_type(event.type):
            pcm, rate = await espeak(Synthesize.from_event(event).text)
            await self.write_event(AudioStart(rate, 2, 1).event())
            for start in range(0, len(pcm), 4000):
                await self.write_event(AudioChunk(rate, 2, 1, pcm[start : start + 4000]).event())
            await self.write_event(AudioStop().event())
        return True


@asynccontextmanager
async def real(where: str = "tcp://127.0.0.1:0") -> AsyncIterator[RealServer]:
    """A real server that runs."""
    server = RealServer()
    await server.start(where)
    try:
        yield server
    finally:
        await server.stop()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def bad(serve: Serve) -> AsyncIterator[SimpleNamespace]:
    """A server that does what it is told, and has each of its connections open until it returned and the other side went."""
    seen = SimpleNamespace(url="", connections=0, open=0, writers=[])

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        seen.open += 1
        try:
            await serve(reader, writer)
            while await reader.read(65536):
                pass
        except (OSError, asyncio.CancelledError):
            seen.reset = True
        finally:
            seen.open -= 1
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    seen.url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()


class LocalStt:
    """An engine of this process that adds up the sound (engine.SpeechToText); `broken` says why it fails."""

    name, place = "local", Place.local

    def __init__(self) -> None:
        self.broken = ""
        self.kept = False
        self.heard: list[bytes] = []

    async def transcribe(self, pcm: bytes, sentences: Sentences) -> Heard:
        del sentences
        if self.broken:
            raise VoiceError(self.broken)
        self.heard.append(pcm)
        return Heard(words(pcm), "local", kept=self.kept)

    async def check(self) -> EngineStatus:
        health = Health.unhealthy if self.broken else Health.healthy
        return EngineStatus("local", "stt", Place.local, health, self.broken or "answers")

    async def close(self) -> None:
        """Nothing to let go of."""


class LocalTts(LocalStt):
    """espeak-ng (engine.TextToSpeech)."""

    async def synthesize(self, text: str) -> Speech:
        if self.broken:
            raise VoiceError(self.broken)
        pcm, rate = await espeak(text)
        return Speech(pcm, rate, "local")


class Rig(SimpleNamespace):
    """Tiers that run, with what they stand on."""

    engines: TieredEngines
    ledger: VoiceLedger
    stt: LocalStt
    tts: LocalTts
    privacy: str
    power: str | None


@asynccontextmanager
async def tiers(path: Path, services: dict[str, dict[str, Any]], cap: int = 10**9, **settings: Any) -> AsyncIterator[Rig]:
    """Tiers on services; `settings` such as stt=("far", "local"), privacy="cloud"."""
    store = Store(path / "state.db")
    store.open()
    given = VoiceSettings.model_validate({"services": services, **settings})
    rig = Rig(stt=LocalStt(), tts=LocalTts(), privacy=given.privacy, power=None, clock=ManualClock(), store=store)
    rig.ledger = VoiceLedger(store, rig.clock, cap)
    rig.engines = TieredEngines(given, rig.stt, rig.tts, rig.ledger, rig.clock, lambda: rig.privacy, lambda: rig.power, QUICK)
    try:
        yield rig
    finally:
        await rig.engines.close()
        store.close()


def cloud(url: str, seconds: float = 5.0, **given: Any) -> dict[str, Any]:
    """A service outside the house."""
    return {"url": url, "place": "cloud", "kinds": ("stt", "tts", "wake"), "timeout_seconds": seconds, **given}


def edge(url: str, seconds: float = 5.0, **given: Any) -> dict[str, Any]:
    """A service of the house."""
    return {**cloud(url, seconds, **given), "place": "edge"}
