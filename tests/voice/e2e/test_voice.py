"""A real appliance is spoken to and answers aloud, through real sound devices, in one room."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any
from urllib.parse import urlsplit

import pytest
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event, Eventable
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize

from appliance.core.voice.words import normal
from tests.servers.sound import Recording
from tests.support import wait_for
from tests.voice.e2e.conftest import Scene
from tests.voice.e2e.rig import RATE, spoken

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.serial, pytest.mark.timeout(120)]
LOUD = 600
"""A sample above it is sound."""


async def silent(scene: Scene, heard: Recording) -> bytes:
    """Wait until it has said all; returns that."""
    await scene.spark.stage("idle")
    await wait_for(lambda: heard.loudest > LOUD, message="it says something")
    known = len(heard.pcm)
    await wait_for(lambda: len(heard.pcm) >= known + RATE, message="half a second more")
    return heard.pcm


async def test_a_question_is_answered_aloud_and_told(scene: Scene) -> None:
    async with scene.room.heard() as heard, scene.spark.events() as events:
        one = await scene.spark.told("hey spark, are there any alerts")
        said = await silent(scene, heard)
        await wait_for(lambda: [line for line in events if one["utterance_id"] in line], message="the event")
    assert (one["action"], one["outcome"], one["wake_word"], one["engine"]) == ("alert.list", "done", "hey spark", "local")
    assert await scene.which(said, one["reply"]) == normal(one["reply"])
    assert 0 < one["timings"]["to_action"] < one["timings"]["to_sound"]
    assert not [line for line in events if "voice.utterance" in line and "any alerts" in line], "words were told"
    assert (await scene.spark.invoke("voice.ledger"))["rows"] == []


async def test_what_a_viewer_may_not_do_is_refused_aloud(scene: Scene) -> None:
    async with scene.room.heard() as heard:
        one = await scene.spark.told("hey spark, restart the alerts service", "rms")
        said = await silent(scene, heard)
    assert (one["action"], one["outcome"]) == ("service.restart", "refused")
    assert await scene.which(said, one["reply"]) == normal(one["reply"])
    rows = await scene.spark.invoke("audit.list", limit=20)
    assert [(row["action"], row["outcome"]) for row in rows if row["actor"] == "microphone"][:1] == [
        ("service.restart", "refused")
    ]


async def test_the_key_makes_it_listen_to_whoever_pressed_it(scene: Scene) -> None:
    listening = asyncio.create_task(scene.spark.invoke("voice.listen"))
    await scene.spark.stage("listening")
    await scene.room.say(spoken("restart the alerts service") + bytes(RATE))
    one = await listening
    assert (one["origin"], one["action"], one["outcome"]) == ("key", "service.restart", "done")


async def test_a_wyoming_client_finds_and_uses_its_engines(scene: Scene) -> None:
    where = urlsplit((await scene.spark.status())["server"])
    async with AsyncTcpClient(str(where.hostname), int(where.port or 0)) as client:
        info = Info.from_event(await asked(client, [Describe()], Info))
        assert info.asr
        assert info.tts
        sound = spoken("what time is it")
        form: dict[str, Any] = {"rate": RATE, "width": 2, "channels": 1}
        parts = [AudioChunk(audio=sound[at : at + 2048], **form) for at in range(0, len(sound), 2048)]
        events = [Transcribe(language="en"), AudioStart(**form), *parts, AudioStop()]
        found = Transcript.from_event(await asked(client, events, Transcript))
        assert "what time is it" in found.text.lower()
        start = AudioStart.from_event(await asked(client, [Synthesize(text="all is well")], AudioStart))
        made = b""
        while not AudioStop.is_type((event := await read(client)).type):
            made += AudioChunk.from_event(event).audio
        assert len(made) > start.rate


async def asked(client: AsyncTcpClient, events: list[Eventable], wanted: type[Eventable]) -> Event:
    """Write events; returns the first one of a type that comes."""
    for each in events:
        await client.write_event(each.event())
    while not wanted.is_type((event := await read(client)).type):  # type: ignore[attr-defined]
        pass
    return event


async def read(client: AsyncTcpClient) -> Event:
    event = await asyncio.wait_for(client.read_event(), 20)
    assert event is not None
    return event


async def test_its_name_silences_it(scene: Scene) -> None:
    text = "This is a long story about a small machine on a shelf. " * 8
    async with scene.room.heard() as heard:
        saying = asyncio.create_task(scene.spark.invoke("voice.say", text=text))
        await wait_for(lambda: heard.loudest > LOUD, message="it says something")
        known = (await scene.spark.newest()).get("utterance_id", "")
        await scene.room.say(spoken("hey spark, stop") + bytes(RATE))
        one = await scene.spark.after(known)
        await scene.spark.stage("idle")
        with contextlib.suppress(Exception):
            await saying
        before = len(heard.pcm)
        await wait_for(lambda: len(heard.pcm) >= before + 2 * RATE, message="a second more")
        rest = Recording()
        rest.pcm = heard.pcm[before + RATE :]
    assert one["outcome"] == "cancelled"
    assert rest.loudest < LOUD, "it goes on speaking"


async def test_a_cloud_engine_that_dies_in_the_middle_is_replaced_and_that_is_said(scene: Scene) -> None:
    await scene.spark.invoke("voice.privacy", confirm=True, mode="cloud")
    one = await scene.spark.told("hey spark, what time is it")
    assert (one["words"], one["engine"], one["outcome"]) == ("what time is it", "away", "done")
    row = await leaving(scene)
    assert (row["service"], row["outcome"], row["utterance_id"]) == ("away", "answered", one["utterance_id"])
    assert row["audio_bytes"] > 2 * RATE
    known = one["utterance_id"]
    await scene.spark.stage("idle")
    scene.engine.send_signal(signal.SIGUSR1)  # from now on it takes the sound and answers nothing
    async with scene.room.heard() as heard:
        await scene.room.say(spoken("hey spark, is the tunnel up", "awb") + bytes(RATE // 2))
        assert scene.engine.stdout is not None
        assert await asyncio.wait_for(asyncio.to_thread(scene.engine.stdout.readline), 20) == b"hearing\n"
        scene.engine.kill()
        one = await scene.spark.after(known, 40)
        said = await silent(scene, heard)
    assert (one["action"], one["outcome"], one["engine"]) == ("vpn.status", "done", "local")
    assert [reason for reason in one["fell_back"] if reason.startswith("away")], one
    assert "cloud" in (await scene.words(said)).split()
    assert "cloud" in (await scene.spark.status())["degraded"]
    row = await leaving(scene)
    assert (row["utterance_id"], row["audio_bytes"] > 2 * RATE) == (one["utterance_id"], True)
    assert row["outcome"] in {"failed", "cut off"}


async def leaving(scene: Scene) -> dict[str, Any]:
    """The newest row of what left the house."""
    return dict((await scene.spark.invoke("voice.ledger"))["rows"][0])


async def test_a_microphone_that_comes_back_is_heard_again(scene: Scene) -> None:
    scene.room.unplug("room")
    gone = await scene.spark.stage("absent")
    assert gone["microphone"] is None or gone["microphone"]["problem"], gone["microphone"]
    services = await scene.spark.invoke("service.list")
    [voice] = [each for each in services if each["name"] == "voice"]
    assert voice["health"] != "healthy"
    assert voice["next_step"]
    scene.room.plug("room")
    await scene.spark.stage("idle", timeout=40)
    one = await scene.spark.told("hey prime, what time is it")
    assert one["wake_word"] == "hey prime"
    assert one["outcome"] == "done"
