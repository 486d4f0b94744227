"""What is said after the wake word goes to a real Wyoming client that has this appliance as its satellite."""

from __future__ import annotations

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.satellite import RunSatellite
from wyoming.wake import Detection

from appliance.core.voice.ground import Kit
from appliance.core.voice.model import Outcome, Stage
from appliance.core.voice.wyoming.server import Ground, WyomingServer
from appliance.settingvoice import WyomingSettings
from tests.support import wait_for
from tests.voice.pipeline.conftest import Scripted, Speaking


async def test_a_server_with_this_satellite_gets_what_is_said(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.append(0.9)
    wanted = WyomingSettings(enabled=True, port=0, satellite=True)

    def serve(kit: Kit) -> WyomingServer:
        return WyomingServer(wanted, Ground(engines=kit.engines))

    async with speaking({"server": serve}) as rig:
        await rig.at(Stage.idle)
        await wait_for(lambda: rig.status.server)
        host, port = rig.status.server.removeprefix("tcp://").split(":")
        async with AsyncTcpClient(host, int(port)) as client:
            await client.write_event(RunSatellite().event())
            await wait_for(lambda: rig.service.server.satellite.active)
            rig.say("hey spark what is the battery level")
            sound, detected = 0, ""
            while (event := await client.read_event()) is not None and not AudioStop.is_type(event.type):
                if Detection.is_type(event.type):
                    detected = Detection.from_event(event).name or ""
                elif AudioChunk.is_type(event.type):
                    sound += len(AudioChunk.from_event(event).audio)
            await client.write_event(Transcript("what is the battery level").event())
            (one,) = await rig.utterances(1)
        await rig.at(Stage.idle)
    assert (one.origin, one.outcome, one.words) == ("wyoming", Outcome.answered, "what is the battery level")
    assert detected == "hey_spark"
    assert 1.0 < sound / 32000 < 4.0
    assert script.talker.heard == [], "it was understood here as well"


async def test_a_server_that_goes_away_at_once_leaves_it_to_be_understood_here(speaking: Speaking, script: Scripted) -> None:
    """All that was said, and once."""
    script.hearing.hits.append(0.9)
    script.hearing.words.append("hey spark what is the battery level")
    wanted = WyomingSettings(enabled=True, port=0, satellite=True)

    def serve(kit: Kit) -> WyomingServer:
        return WyomingServer(wanted, Ground(engines=kit.engines))

    async with speaking({"server": serve}) as rig:
        await rig.at(Stage.idle)
        await wait_for(lambda: rig.status.server)
        host, port = rig.status.server.removeprefix("tcp://").split(":")
        async with AsyncTcpClient(host, int(port)) as client:
            await client.write_event(RunSatellite().event())
            await wait_for(lambda: rig.service.server.satellite.active)
            rig.say("hey spark what is the battery level")
            while (event := await client.read_event()) is not None and not Detection.is_type(event.type):
                pass
        (one,) = await rig.utterances(1)
        await rig.at(Stage.idle)
        assert len(rig.status.utterances) == 1
    assert (one.origin, one.outcome, one.words) == ("microphone", Outcome.done, "what is the battery level")
    assert len(script.talker.heard) == 1
    assert script.hearing.lengths[-1] > 1.5, "its beginning was lost"
