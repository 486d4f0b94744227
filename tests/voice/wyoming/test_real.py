"""Both ends real: our server over the recogniser and the voice of this machine, the package's client, and the tiers between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.tts import Synthesize
from wyoming.wake import Detect, Detection

import appliance
from appliance.core.clock import SystemClock
from appliance.core.store import Store
from appliance.core.voice.detect.wake import WakeModels
from appliance.core.voice.ledger import VoiceLedger
from appliance.core.voice.local.child import Child
from appliance.core.voice.local.espeak import Espeak
from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import NO_SENTENCES
from appliance.core.voice.tiers import TieredEngines
from appliance.core.voice.words import normal
from appliance.core.voice.wyoming.convert import Converter
from appliance.core.voice.wyoming.server import Ears, Ground, WyomingServer
from appliance.errors import VoiceError
from appliance.settingvoice import VoiceSettings, WyomingSettings
from tests.support import capability, needs_program, wait_for
from tests.voice.wyoming.rig import edge, espeak
from tests.voice.wyoming.test_server import ask

MODELS = Path(appliance.__file__).resolve().parent.parent / ".models"
SAYS = "Good morning everybody, how are you today?"
HEARS = "good morning everybody how are you today"


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[SimpleNamespace]:
    """The appliance's own engines behind its own server."""
    capability((MODELS / "voice/moonshine-tiny-en").is_dir(), "the model that recognises speech")
    needs_program("espeak-ng")
    store = Store(tmp_path / "state.db")
    store.open()
    clock = SystemClock()
    local = LocalSpeechToText(MODELS, clock, os.environ)
    voice = Espeak("en-us", 140, dict(os.environ))
    ledger = VoiceLedger(store, clock, 0)
    engines = TieredEngines(VoiceSettings(), local, voice, ledger, clock, lambda: "edge-only")
    words = ("okay nabu",)
    server = WyomingServer(
        WyomingSettings(port=0), Ground(engines=engines, ears=lambda: Ears(WakeModels(words).feed, words), wake_words=words)
    )
    await server.start()
    yield SimpleNamespace(server=server, voice=voice, engines=engines, ledger=ledger, clock=clock)
    await server.stop()
    await engines.close()
    store.close()


async def spoken(client: AsyncClient, text: str) -> tuple[bytes, int]:
    """What the server says."""
    await ask(client, Synthesize(text).event())
    event = await client.read_event()
    assert event is not None
    rate, sound = AudioStart.from_event(event).rate, b""
    while (event := await client.read_event()) is not None and not AudioStop.is_type(event.type):
        sound += event.payload or b""
    return sound, rate


async def unstartable(*_: object) -> Child:
    raise VoiceError("The speech recognition cannot be started.", "see the log.")


async def test_what_the_server_says_it_understands_and_where_it_is_killed_another_does(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncClient.from_uri(machine.server.address) as client:
        sound, rate = await spoken(client, SAYS)
        await ask(client, AudioStart(rate, 2, 1).event())
        for start in range(0, len(sound), 2048):
            await ask(client, AudioChunk(rate, 2, 1, sound[start : start + 2048]).event())
        await ask(client, AudioStop().event())
        event = await client.read_event()
        assert event is not None
        assert normal(Transcript.from_event(event).text) == HEARS
    pcm = Converter(rate, 2, 1, 16000).feed(sound, last=True)
    services = {"near": edge(machine.server.address, 20)}
    settings = VoiceSettings.model_validate({"services": services, "stt": ("local", "near")})
    mine = LocalSpeechToText(MODELS, machine.clock, os.environ, threads=1)
    tiers = TieredEngines(settings, mine, machine.voice, machine.ledger, machine.clock, lambda: "edge-only")
    try:
        assert (await tiers.transcribe(pcm, NO_SENTENCES)).engine == "local"
        assert mine.pid is not None
        child = psutil.Process(mine.pid)
        child.suspend()
        asks = asyncio.create_task(tiers.transcribe(pcm, NO_SENTENCES))
        await asyncio.sleep(0)
        monkeypatch.setattr(Child, "started", unstartable)  # else it is started again, and asked once more
        child.kill()
        heard = await asks
        assert (heard.engine, normal(heard.text)) == ("near", HEARS)
        assert heard.fell_back[0].startswith("local: ")
        await wait_for(lambda: machine.server.clients == 0)
    finally:
        await mine.close()


async def test_a_real_model_hears_its_wake_word_in_a_stream(machine: SimpleNamespace) -> None:
    said, rate = await espeak("okay nabu")
    async with AsyncClient.from_uri(machine.server.address) as client:
        await ask(client, Detect(["okay_nabu"]).event(), AudioStart(rate, 2, 1).event())
        sound = bytes(rate) + said + bytes(3 * rate)
        for start in range(0, len(sound), 2048):
            await ask(client, AudioChunk(rate, 2, 1, sound[start : start + 2048]).event())
        await ask(client, AudioStop().event())
        event = await client.read_event()
        assert event is not None
        assert Detection.is_type(event.type)
        assert Detection.from_event(event).name == "okay_nabu"
