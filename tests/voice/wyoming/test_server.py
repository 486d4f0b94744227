"""The appliance as a Wyoming server, used by the package's own client, and misused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event, async_read_event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize
from wyoming.wake import Detect, Detection, NotDetected

from appliance.core.voice.model import NO_SENTENCES, Hit
from appliance.core.voice.wyoming.convert import Converter
from appliance.core.voice.wyoming.engines import RemoteSpeechToText, RemoteTextToSpeech, RemoteWake
from appliance.core.voice.wyoming.link import Sent
from appliance.core.voice.wyoming.server import Ears, Ground, WyomingServer
from appliance.errors import VoiceError
from appliance.settings import Settings
from appliance.settingvoice import VoiceService, WyomingSettings
from tests.support import wait_for
from tests.voice.wyoming.rig import PCM, cloud, edge, real, tiers, words

WAKE = b"\x11\x22" * 100


def ears() -> Ears:
    """Hears a certain sound."""
    heard = bytearray()

    def feed(pcm: bytes) -> tuple[Hit, ...]:
        heard.extend(pcm)
        if WAKE not in heard:
            return ()
        heard.clear()
        return (Hit("hey spark", 0.9, "test"),)

    return Ears(feed, ("hey spark", "hey prime"))


@asynccontextmanager
async def serving(path: Path, services: dict[str, Any] | None = None, **given: Any) -> AsyncIterator[tuple[WyomingServer, Any]]:
    """The server on tiers; `settings` are those of the voice, the rest is the server's ground."""
    listen = WyomingSettings.model_validate({"port": 0, "connections": 4, **given.pop("listen", {})})
    async with tiers(path, services or {}, **given.pop("settings", {})) as rig:
        ground = Ground(
            engines=rig.engines, **{"ears": ears, "wake_words": ("hey spark", "hey prime"), "version": "1.2", **given}
        )
        server = WyomingServer(listen, ground)
        await server.start()
        try:
            yield server, rig
        finally:
            await server.stop()


async def ask(client: AsyncClient, *events: Event) -> None:
    for event in events:
        await client.write_event(event)


def utterance(pcm: bytes, rate: int = 16000, width: int = 2, channels: int = 1) -> list[Event]:
    pieces = [pcm[start : start + 4001] for start in range(0, len(pcm), 4001)]
    chunks = [AudioChunk(rate, width, channels, each).event() for each in pieces]
    return [Transcribe().event(), AudioStart(rate, width, channels).event(), *chunks, AudioStop().event()]


async def test_the_packages_client_has_its_speech_recognised_and_its_text_spoken(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _), AsyncClient.from_uri(server.address) as client:
        await ask(client, Describe().event(), *utterance(PCM), Ping("there?").event())
        info = Info.from_event(await client.read_event())
        assert (info.asr[0].name, info.tts[0].voices[0].languages, info.satellite) == ("prime-spark", ["en"], None)
        assert [model.phrase for model in info.wake[0].models] == ["hey spark", "hey prime"]
        assert Transcript.from_event(await client.read_event()).text == words(PCM)
        assert Pong.from_event(await client.read_event()).text == "there?"
        await ask(client, Synthesize("all is well").event())
        start = AudioStart.from_event(await client.read_event())
        sound = b""
        while not AudioStop.is_type((event := await client.read_event()).type):
            sound += event.payload or b""
        assert (start.rate, start.width, start.channels) == (22050, 2, 1)
        assert 0.5 < len(sound) / 2 / 22050 < 3


async def test_libraries_are_loaded_and_sound_is_converted_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()

    class Watched(Converter):
        def __init__(self, *given: Any) -> None:
            threads.add(threading.current_thread().name)
            super().__init__(*given)

        def feed(self, sound: bytes, *, last: bool = False) -> bytes:
            threads.add(threading.current_thread().name)
            return super().feed(sound, last=last)

    monkeypatch.setattr("appliance.core.voice.wyoming.session.Converter", Watched)
    async with serving(tmp_path) as (server, _), AsyncClient.from_uri(server.address) as client:
        await ask(client, *utterance(bytes(88200), 22050, 2, 2))
        assert Transcript.is_type((await client.read_event()).type)
    assert threads
    assert threading.main_thread().name not in threads


async def test_our_client_and_our_server_are_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        service = VoiceService.model_validate(edge(server.address))
        assert (await RemoteSpeechToText("x", service).transcribe(PCM, NO_SENTENCES)).text == words(PCM)
        assert (await RemoteTextToSpeech("x", service).synthesize("hello")).seconds > 0.2

        async def frames() -> AsyncIterator[bytes]:
            yield bytes(1024)
            yield WAKE

        assert await RemoteWake("x", service).detect(frames(), ("hey spark",)) == "hey spark"
        assert (await RemoteWake("x", service).check()).reason == "answers"
        await wait_for(lambda: server.clients == 0)


async def test_clients_at_one_time_get_each_their_own_words(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        service = VoiceService.model_validate(edge(server.address))
        sounds = [bytes([number]) * (20_000 + 2 * number) for number in range(4)]
        heard = await asyncio.gather(*(RemoteSpeechToText("x", service).transcribe(each, NO_SENTENCES) for each in sounds))
        assert [each.text for each in heard] == [words(each) for each in sounds]


@pytest.mark.parametrize(("rate", "width", "channels"), [
    (48000, 2, 2), (44100, 4, 1), (8000, 1, 1), (16000, 3, 6), (22050, 2, 1),
], ids=["48k-stereo", "44k1-32bit", "8k-8bit", "16k-24bit-6", "22k"])  # fmt: skip
async def test_other_sound_is_converted(tmp_path: Path, rate: int, width: int, channels: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate * 2) / rate) * 0.5
    whole = (np.repeat(tone, channels) * 2 ** (8 * width - 1)).astype("<i4")
    narrow = (whole + 128).astype(np.uint8) if width == 1 else whole.view(np.uint8).reshape(-1, 4)[:, :width]
    raw = narrow.tobytes()
    async with serving(tmp_path) as (server, rig), AsyncClient.from_uri(server.address) as client:
        await ask(client, *utterance(raw, rate, width, channels))
        assert Transcript.is_type((await client.read_event()).type)
        samples = np.frombuffer(rig.stt.heard[0], "<i2").astype(float) / 32768
    assert abs(len(samples) - 32000) < 40
    spectrum = np.abs(np.fft.rfft(samples[4000:28000]))
    assert abs(np.argmax(spectrum) * 16000 / 24000 - 440) < 2
    assert 0.33 < np.sqrt(np.mean(samples[4000:28000] ** 2)) < 0.37, "neither clipped nor made quieter"


async def test_wake_words_of_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _), AsyncClient.from_uri(server.address) as client:
        start = AudioStart(16000, 2, 1).event()
        quiet, loud = AudioChunk(16000, 2, 1, bytes(2048)).event(), AudioChunk(16000, 2, 1, WAKE).event()
        await ask(client, Detect().event(), start, quiet, AudioStop().event())
        assert NotDetected.is_type((await client.read_event()).type)
        await ask(client, Detect(["hey_spark"]).event(), start, quiet, loud, quiet)
        assert Detection.from_event(await client.read_event()).name == "hey_spark"
        await ask(client, Detect(["hey_prime"]).event(), start, quiet, loud, AudioStop().event())
        assert NotDetected.is_type((await client.read_event()).type)
        await ask(client, Detect(["alexa"]).event())
        assert "hears none of alexa" in Error.from_event(await client.read_event()).text


async def test_clients_do_not_reach_the_cloud_unless_it_may_be_and_then_it_is_written_down(tmp_path: Path) -> None:
    async with real() as far:
        settings = {"stt": ("far", "local"), "tts": ("far", "local")}
        async with serving(tmp_path, {"far": cloud(far.url)}, settings=settings) as (server, rig):
            service = VoiceService.model_validate(edge(server.address))
            await RemoteSpeechToText("x", service).transcribe(PCM, NO_SENTENCES)
            await RemoteTextToSpeech("x", service).synthesize("hello")
            assert far.connections == 0
            rig.privacy = "cloud"
            await RemoteSpeechToText("x", service).transcribe(PCM, NO_SENTENCES)
            (row,) = await rig.ledger.rows()
            assert (row.utterance_id, row.audio_bytes, far.audio) == ("wyoming", len(PCM), len(PCM))


def head(kind: Any, **given: Any) -> bytes:
    return json.dumps({"type": kind, **given}).encode() + b"\n"


@pytest.mark.parametrize("sent", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\xff" * 200_000,
    b"[]\n",
    b"[" * 60_000 + b"\n",
    head("audio-chunk", payload_length=2**40),
    head("describe", data_length=2**31),
    head("audio-start", data={"rate": "x", "width": 2, "channels": 1}),
    head("audio-start", data={"rate": 16000, "width": 2, "channels": 10**6}),
    head("audio-chunk", data={"rate": 0, "width": 2, "channels": 1}, payload_length=2) + b"ab",
    head("audio-chunk", data={}, payload_length=2) + b"ab",
    head("audio-stop"),
    head("synthesize", data={}),
    head("detect", data=[]),
    head(5),
], ids=[
    "http", "bytes", "list", "deep", "payload", "data", "rate", "channels", "zero", "no-format", "stop", "no-text", "list-data",
    "type",
])  # fmt: skip
async def test_nonsense_ends_that_client_and_no_other(tmp_path: Path, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as (server, _), AsyncClient.from_uri(server.address) as other:
        reader, writer = await asyncio.open_connection(*server.address.removeprefix("tcp://").split(":"))
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):  # it had sent more than was read
            event = await async_read_event(reader)
            assert event is None or Error.is_type(event.type)
            assert await reader.read() == b"", "it is let go of"
        writer.close()
        await ask(other, *utterance(PCM))
        assert Transcript.from_event(await other.read_event()).text == words(PCM)
        await wait_for(lambda: server.clients == 1)
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_bounds_of_text_and_sound(tmp_path: Path) -> None:
    async with serving(tmp_path, utterance_seconds=1.0) as (server, rig), AsyncClient.from_uri(server.address) as client:
        await ask(client, *utterance(PCM))
        assert "more than 1 s" in Error.from_event(await client.read_event()).text
        await ask(client, Synthesize("x" * 4001).event(), Synthesize("  ").event())
        assert "4000 characters" in Error.from_event(await client.read_event()).text
        assert "nothing to say" in Error.from_event(await client.read_event()).text
        await ask(client, *utterance(PCM[:20_000]))
        assert Transcript.from_event(await client.read_event()).text == words(PCM[:20_000]), "and the next is well"
        assert rig.stt.heard == [PCM[:20_000]]


async def test_one_too_long_is_refused_at_once_and_our_client_sends_no_more(tmp_path: Path) -> None:
    async with serving(tmp_path, utterance_seconds=1.0) as (server, rig):
        sent, sound = Sent(), PCM * 200
        service = VoiceService.model_validate(edge(server.address, 30))
        with pytest.raises(VoiceError, match=r"refused: An utterance of more than 1 s is not recognised\. Next"):
            await RemoteSpeechToText("x", service).transcribe(sound, NO_SENTENCES, sent)
        assert 32_000 < sent.audio < len(sound)
        assert rig.stt.heard == []


async def test_too_many_clients_are_turned_away_and_idle_ones_let_go(tmp_path: Path) -> None:
    async with serving(tmp_path, listen={"connections": 1}, idle_seconds=0.3) as (server, _):
        async with AsyncClient.from_uri(server.address) as first:
            await ask(first, Ping().event())
            await first.read_event()
            async with AsyncClient.from_uri(server.address) as second:
                assert Error.from_event(await second.read_event()).code == "busy"
            assert server.turned_away == 1
            assert await first.read_event() is None, "it said nothing for too long"
        await wait_for(lambda: server.clients == 0)


async def test_one_that_breaks_off_is_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _):
        async with AsyncClient.from_uri(server.address) as client:
            await ask(client, *utterance(PCM)[:5])
        await wait_for(lambda: server.clients == 0)


async def test_an_engine_that_fails_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, rig), AsyncClient.from_uri(server.address) as client:
        rig.stt.broken = "The worker was killed."
        await ask(client, *utterance(PCM))
        assert re.search("local: The worker was killed", Error.from_event(await client.read_event()).text)


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, rig):
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(VoiceError, match=r"cannot be listened on: .*in use") as caught:
            await WyomingServer(WyomingSettings(port=port), Ground(engines=rig.engines)).start()
    assert " wyoming.host " in caught.value.next_step, "as the setting is called"
    assert isinstance(Settings().wyoming, WyomingSettings)
