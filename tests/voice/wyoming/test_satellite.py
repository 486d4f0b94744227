"""The satellite, with a server at the other end that does as Home Assistant does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.snd import Played
from wyoming.tts import Synthesize
from wyoming.vad import VoiceStarted, VoiceStopped
from wyoming.wake import Detection

from appliance.core.voice.wyoming import satellite as module
from appliance.core.voice.wyoming.satellite import Satellite
from appliance.errors import DeviceError, VoiceError
from tests.support import wait_for
from tests.voice.wyoming.rig import PCM
from tests.voice.wyoming.test_server import ask, serving


class Speaker:
    """Takes what is played."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, int]] = []
        self.stopped = 0
        self.broken = False

    async def play(self, pcm: AsyncIterator[bytes], rate: int) -> float:
        if self.broken:
            raise DeviceError("The speaker went away.")
        sound = b"".join([each async for each in pcm])
        self.heard.append((sound, rate))
        return len(sound) / 2 / rate

    def stop(self) -> None:
        self.stopped += 1


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[tuple[Satellite, Speaker, AsyncClient, Any]]:
    async with serving(path, listen={"satellite": True}) as (server, _):
        satellite, speaker = server.satellite, Speaker()
        assert satellite is not None
        satellite.play, satellite.stop = speaker.play, speaker.stop
        async with AsyncClient.from_uri(server.address) as client:
            await ask(client, RunSatellite().event())
            await wait_for(lambda: satellite.active)
            yield satellite, speaker, client, server


async def frames(gate: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(PCM), 1024):
        yield PCM[start : start + 1024]
    if gate is not None:
        await gate.wait()


async def heard(client: AsyncClient, stop: Any) -> list[Event]:
    events: list[Event] = []
    while not events or not stop(events):
        event = await client.read_event()
        assert event is not None
        events.append(event)
    return events


async def test_a_turn_as_home_assistant_has_it(tmp_path: Path) -> None:
    async with connected(tmp_path) as (satellite, speaker, client, server):
        async with AsyncClient.from_uri(server.address) as other:
            await ask(other, Describe().event())
            described = Info.from_event(await other.read_event()).satellite
            assert described is not None
            assert described.has_vad
        gate = asyncio.Event()
        hears = asyncio.create_task(satellite.hear(frames(gate), "hey spark"))
        events = await heard(client, lambda each: sum(len(one.payload or b"") for one in each) == len(PCM))
        assert Detection.from_event(events[0]).name == "hey_spark"
        run = RunPipeline.from_event(events[1])
        assert (run.start_stage, run.end_stage, run.wake_word_name) == (PipelineStage.ASR, PipelineStage.TTS, "hey_spark")
        assert b"".join(each.payload or b"" for each in events[2:]) == PCM
        await ask(client, Transcribe(language="en").event(), VoiceStarted(0).event(), VoiceStopped(1900).event())
        await ask(client, Transcript("turn on the light").event(), Synthesize("It is on.").event())
        assert await hears == "turn on the light"
        await ask(
            client, AudioStart(22050, 2, 2).event(), AudioChunk(22050, 2, 2, b"\1\0\3\0" * 3000).event(), AudioStop().event()
        )
        await heard(client, lambda each: Played.is_type(each[-1].type))
        assert speaker.heard == [(b"\2\0" * 3000, 22050)], "one channel, at its own rate"
        await ask(client, Ping("x").event())
        (pong,) = await heard(client, lambda each: True)
        assert Pong.from_event(pong).text == "x"


async def test_the_end_of_what_is_said_is_told_and_an_announcement_is_played(tmp_path: Path) -> None:
    async with connected(tmp_path) as (satellite, speaker, client, _):
        hears = asyncio.create_task(satellite.hear(frames(), "hey spark"))
        await heard(client, lambda each: AudioStop.is_type(each[-1].type))
        await ask(client, Transcript("").event())
        assert await hears == ""
        await ask(client, AudioStart(16000, 2, 1).event(), AudioChunk(16000, 2, 1, PCM).event(), AudioStop().event())
        await heard(client, lambda each: Played.is_type(each[-1].type))
        assert speaker.heard == [(PCM, 16000)]


@pytest.mark.parametrize("how", ["error", "pause", "gone"])
async def test_a_turn_that_fails_is_said(tmp_path: Path, how: str) -> None:
    async with connected(tmp_path) as (satellite, _, client, _server):
        hears = asyncio.create_task(satellite.hear(frames(asyncio.Event()), "hey spark"))
        await heard(client, lambda each: AudioChunk.is_type(each[-1].type))
        if how == "error":
            await ask(client, Error("no engine", "stt-stream-failed").event())
        elif how == "pause":
            await ask(client, PauseSatellite().event())
        else:
            await client.disconnect()
        with pytest.raises(VoiceError, match={"error": "no engine", "pause": "pauses", "gone": "closed"}[how]):
            await hears
        assert satellite.active is (how == "error")
        if how == "gone":
            await wait_for(lambda: not satellite.connected)
        again = asyncio.create_task(satellite.hear(frames(), "hey spark"))
        if how == "error":
            await heard(client, lambda each: AudioStop.is_type(each[-1].type))
            await ask(client, Transcript("once more").event())
            assert await again == "once more"
        else:
            with pytest.raises(VoiceError, match="No server is ready"):
                await again


async def test_silence_of_the_server_ends_the_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORDS", 0.1)
    async with connected(tmp_path) as (satellite, _, _client, _server):
        with pytest.raises(VoiceError, match="did not tell within"):
            await satellite.hear(frames(), "hey spark")
        assert satellite.active


async def test_the_speaker_stops_where_the_server_goes_and_may_be_broken(tmp_path: Path) -> None:
    async with connected(tmp_path) as (satellite, speaker, client, _):
        speaker.broken = True
        await ask(client, AudioStart(16000, 2, 1).event())
        for _number in range(20):
            await ask(client, AudioChunk(16000, 2, 1, bytes(2**20)).event())
        await ask(client, AudioStop().event(), Ping("alive").event())
        await heard(client, lambda each: Pong.is_type(each[-1].type))
        speaker.broken = False
        await ask(client, AudioStart(16000, 2, 1).event(), AudioChunk(16000, 2, 1, PCM).event(), Ping().event())
        await heard(client, lambda each: Pong.is_type(each[-1].type))
        await client.disconnect()
        await wait_for(lambda: speaker.stopped == 1 and not satellite.connected)
        assert speaker.heard == []


async def test_one_server_at_a_time_and_only_of_the_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(tmp_path) as (satellite, _, client, server):
        async with AsyncClient.from_uri(server.address) as other:
            await ask(other, RunSatellite().event())
            assert "Another server" in Error.from_event(await other.read_event()).text
        await client.disconnect()
        await wait_for(lambda: not satellite.connected)
        monkeypatch.setattr(module, "is_outside", lambda address: address == "127.0.0.1")
        async with AsyncClient.from_uri(server.address) as stranger:
            await ask(stranger, RunSatellite().event())
            assert "not in the house" in Error.from_event(await stranger.read_event()).text
        assert not satellite.connected


async def test_without_the_operators_wish_there_is_none(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, _), AsyncClient.from_uri(server.address) as client:
        await ask(client, RunSatellite().event())
        assert "no satellite" in Error.from_event(await client.read_event()).text
        assert server.satellite is None
