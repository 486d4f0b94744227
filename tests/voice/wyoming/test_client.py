"""The client: a real server, and all kinds of bad ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart
from wyoming.error import Error
from wyoming.event import Event, async_write_event

from appliance.core.model import Health
from appliance.core.voice.model import NO_SENTENCES, Place
from appliance.core.voice.wyoming import link as linking
from appliance.core.voice.wyoming.engines import RemoteSpeechToText, RemoteTextToSpeech, RemoteWake
from appliance.core.voice.wyoming.link import Sent, dial, is_outside
from appliance.errors import VoiceError
from appliance.settingvoice import VoiceService
from tests.support import free_port, wait_for
from tests.voice.wyoming.rig import PCM, Serve, bad, edge, real, words

LINE = b'{"type": "transcript", "data": {"text": "no"}}\n'


def service(url: str, seconds: float = 5.0, **given: Any) -> VoiceService:
    return VoiceService.model_validate(edge(url, seconds, **given))


@pytest.mark.parametrize("how", ["tcp", "unix"])
async def test_a_real_server_gets_each_byte_and_its_words_come_back(tmp_path: Path, how: str) -> None:
    async with real(f"unix://{tmp_path}/w.sock" if how == "unix" else "tcp://127.0.0.1:0") as server:
        sent = Sent()
        heard = await RemoteSpeechToText("near", service(server.url)).transcribe(PCM, NO_SENTENCES, sent)
    assert (heard.text, heard.engine, heard.place, heard.seconds) == (words(PCM), "near", Place.edge, 2.0)
    assert sent.audio == server.audio == len(PCM)
    assert server.asked[:2] == ["transcribe", "audio-start"]
    assert server.asked.count("audio-chunk") == 32, "it is sent in pieces"


async def test_a_real_server_speaks_with_espeak() -> None:
    async with real() as server:
        speech = await RemoteTextToSpeech("near", service(server.url)).synthesize("all is well")
    assert speech.rate == 22050
    assert 0.5 < speech.seconds < 3
    assert max(speech.pcm) > 0


async def test_a_real_server_hears_a_wake_word_and_the_end() -> None:
    async def frames(*given: bytes) -> AsyncIterator[bytes]:
        for each in given:
            yield each

    async with real() as server:
        wake = RemoteWake("near", service(server.url))
        assert (
            await wake.detect(frames(bytes(1024), b"hey spark" + bytes(1015), bytes(1024)), ("hey prime", "hey spark"))
            == "hey spark"
        )
        assert await wake.detect(frames(bytes(1024)), ("hey spark",)) == ""


async def test_its_description_is_its_health() -> None:
    async with real() as server:
        well = await RemoteSpeechToText("near", service(server.url)).check()
        lacks = await RemoteSpeechToText("near", service(server.url, model="large")).check()
        url = server.url
    assert (well.health, well.model) == (Health.healthy, "checksum")
    assert (lacks.health, lacks.reason) == (Health.degraded, "it has no large, and has checksum")
    away = await RemoteSpeechToText("near", service(url)).check()
    assert away.health is Health.unhealthy
    assert "refused" in away.reason


@pytest.mark.parametrize(
    "models", [None, [None], 1.5, [{"name": ["x"], "installed": True}]], ids=["none", "empty", "number", "partial"]
)
async def test_a_description_of_the_wrong_shape_is_nonsense_and_no_fault_of_ours(models: object) -> None:
    program = {"name": "a", "attribution": {"name": "", "url": ""}, "installed": True, "description": "", "version": "1"}
    told = Event("info", {"asr": [{**program, "models": models}], "tts": [], "wake": []})
    async with bad(serving(told)) as server:
        status = await RemoteSpeechToText("bad", service(server.url)).check()
    assert status.health is Health.unhealthy
    assert "nonsense" in status.reason


def serving(*pieces: bytes | Event, endless: bool = False) -> Serve:
    """A server that says this, whatever it is asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        while True:
            for each in pieces:
                await asyncio.sleep(0)
                if isinstance(each, Event):
                    await async_write_event(each, writer)
                else:
                    writer.write(each)
                    await writer.drain()
            if not endless:
                return

    return serve


def head(**given: Any) -> bytes:
    return json.dumps({"type": "transcript", **given}).encode() + b"\n"


BAD = {
    "garbage": (serving(b"\x00\xff\x13garbage\n"), "nonsense"),
    "no end of line": (serving(b"x" * 65536, endless=True), "more than 65536 bytes"),
    "no object": (serving(b"[1, 2]\n"), "nonsense"),
    "no type": (serving(b'{"data": {}}\n'), "nonsense"),
    "deep": (serving(b"[" * 60000 + b"\n"), "nonsense"),
    "huge payload": (serving(head(payload_length=2**40)), "1099511627776 bytes"),
    "huge data": (serving(head(data_length=2**30)), "1073741824 bytes"),
    "length no number": (serving(head(payload_length="many")), "nonsense"),
    "length a fraction": (serving(head(payload_length=1.5)), "1.5 bytes"),
    "data no object": (serving(head(data=[1])), "nonsense"),
    "no text": (serving(head(data={})), "lasted"),
    "text no text": (serving(head(data={"text": 5})), "lasted"),
    "half an event": (serving(head(payload_length=100) + b"x"), "did not answer within"),
    "error": (serving(Error("no such model").event()), "no such model"),
    "chatter": (serving(Event("info"), endless=True), "1000 events"),
}


@pytest.mark.parametrize("name", BAD)
async def test_nonsense_ends_in_a_voice_error_and_a_closed_socket(name: str) -> None:
    serve, told = BAD[name]
    async with bad(serve) as server:
        with pytest.raises(VoiceError) as caught:
            await RemoteSpeechToText("bad", service(server.url, 0.5 if name == "half an event" else 20)).transcribe(
                PCM[:8000], NO_SENTENCES
            )
        if told != "lasted":
            assert told in caught.value.message
        await wait_for(lambda: server.connections == 1 and not server.open)


async def test_a_server_that_closes_says_nothing_or_is_deaf() -> None:
    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    for serve, seconds, told in ((closes, 20, "closed the conn"), (silent, 0.3, "within 0.3 s"), (deaf, 0.3, "within 0.3 s")):
        async with bad(serve) as server:
            with pytest.raises(VoiceError, match=told):
                await RemoteSpeechToText("bad", service(server.url, seconds)).transcribe(PCM * 200, NO_SENTENCES)


async def test_an_answer_before_the_end_is_no_answer() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await async_write_event(Transcript("too early").event(), writer)
        await asyncio.Event().wait()

    async with bad(early) as server:
        with pytest.raises(VoiceError, match="before it had heard all"):
            await RemoteSpeechToText("bad", service(server.url)).transcribe(PCM * 200, NO_SENTENCES)


@pytest.mark.parametrize(("say", "told"), [
    ((AudioChunk(16000, 2, 1, b"ab").event(),), "before any audio-start"),
    ((AudioStart(16000, 2, 0).event(),), "0 channels"),
    ((AudioStart(10**9, 2, 1).event(),), "1000000000 Hz"),
    ((AudioStart(16000, 2, 1).event(), Event("audio-stop")), "no sound"),
    ((AudioStart(16000, 2, 1).event(), Error("it broke").event()), "it broke"),
], ids=["order", "channels", "rate", "empty", "error"])  # fmt: skip
async def test_speech_that_is_none(say: tuple[Event, ...], told: str) -> None:
    async with bad(serving(*say)) as server:
        with pytest.raises(VoiceError, match=told):
            await RemoteTextToSpeech("bad", service(server.url)).synthesize("hello")


async def test_endless_sound_ends() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await async_write_event(AudioStart(8000, 1, 1).event(), writer)
        while True:
            await async_write_event(AudioChunk(8000, 1, 1, bytes(65536)).event(), writer)

    async with bad(endless) as server:
        with pytest.raises(VoiceError, match="more than 180 s of sound"):
            await RemoteTextToSpeech("bad", service(server.url, 30)).synthesize("hello")
        await wait_for(lambda: not server.open)


async def test_one_in_the_house_must_be_in_the_house(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "8.8.8.8"]

    monkeypatch.setattr(linking, "_resolve", resolve)
    async with real() as server:
        url = server.url.replace("127.0.0.1", "whisper.example")
        with pytest.raises(VoiceError, match=r"8\.8\.8\.8, which is not in the house"):
            await dial(url, Place.edge)
        assert server.connections == 0
        (await dial(url, Place.cloud)).close()


def test_addresses_outside() -> None:
    outside = {
        each
        for each in ("8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1", "192.168.1.4", "fe80::1%eth0", "100.64.0.1", "x")
        if is_outside(each)
    }
    assert outside == {"8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1"}


async def test_nobody_there() -> None:
    with pytest.raises(VoiceError, match="does not answer"):
        await RemoteSpeechToText("away", service(f"tcp://127.0.0.1:{free_port()}")).transcribe(PCM, NO_SENTENCES)
    with pytest.raises(VoiceError, match="does not answer"):
        await RemoteSpeechToText("away", service("unix:///nowhere/at/all")).transcribe(PCM, NO_SENTENCES)
