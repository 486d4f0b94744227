"""The voice as a service: what is absent, degraded, told, kept and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.core.memory.model import Kind, Meta
from appliance.core.memory.replicas import Replicas
from appliance.core.model import Actor, Device, Health, Role
from appliance.core.observe.exposition import scrape
from appliance.core.state import Section
from appliance.core.voice.ground import Kit
from appliance.core.voice.local.espeak import Espeak
from appliance.core.voice.model import ArrayStatus, Outcome, SoundLevel, SpeakerStatus, Stage
from appliance.core.voice.tiers import TieredEngines
from appliance.errors import AbsentError, DeviceError, NotAuthorizedError, NotFoundError
from appliance.screens.voice_view import absence
from tests.memory.rig import Rig as Memories
from tests.support import wait_for
from tests.voice.pipeline.conftest import Scripted, Speaking
from tests.voice.pipeline.rig import FastClock, Rig

ADA = Actor("ada", Role.operator, "console")


class ScriptedArray:
    """An array that answers, until it is told not to (ports.MicrophoneArray)."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.failing = False
        self.closed = False

    def detect(self) -> Device:
        return Device("microphone array", "ReSpeaker", Health.healthy, "it is there")

    def status(self) -> ArrayStatus:
        return ArrayStatus("ReSpeaker", direction=self.direction(), parameters={"AGCONOFF": 1.0})

    def direction(self) -> int:
        if self.failing:
            raise DeviceError("the array does not answer over USB.", "plug it in again.")
        return 270

    def set(self, name: str, value: float) -> float:
        return value

    def lights(self, pattern: str) -> None:
        self.direction()
        self.shown.append(pattern)

    def close(self) -> None:
        self.closed = True


async def turn(rig: Rig, text: str = "what is the battery level") -> Any:
    """One turn by key."""
    asked = asyncio.create_task(rig.service.desk.listen(ADA, None))
    await rig.at(Stage.listening)
    rig.say(text)
    return await asked


async def test_switched_off_nothing_is_opened_and_questions_are_answered(speaking: Speaking) -> None:
    async with speaking(enabled="no") as rig:
        report = await rig.service.health()
        assert (report.health, report.next_step) == (Health.absent, 'set voice.enabled = "auto".')
        assert rig.status.stage is Stage.absent
        assert (await rig.service.desk.ask("what is the battery level", ADA, aloud=True)).text == "Done."
        assert rig.cards.out.pcm, "it was not said aloud"
        assert rig.status.utterances[0].origin == "text"
        with pytest.raises(AbsentError, match="switched off"):
            await rig.service.desk.listen(ADA, None)
        assert not rig.status.microphone


async def test_without_a_microphone_it_is_absent_with_the_next_step(speaking: Speaking) -> None:
    async with speaking() as rig:
        await rig.at(Stage.idle)
        rig.cards.there = rig.cards.mic.here = False
        await wait_for(lambda: rig.service.why.health is Health.absent)
        report = await rig.service.health()
        assert (report.reason, report.next_step) == ("no capture device", "plug one in")
        rig.cards.there = rig.cards.mic.here = True
        await rig.at(Stage.idle)


async def test_the_status_tells_why_nothing_is_heard_as_listening_does(speaking: Speaking) -> None:
    async with speaking() as rig:
        await rig.at(Stage.idle)
        assert (rig.status.why, rig.status.next_step) == ("", "")
        rig.cards.there = rig.cards.mic.here = False
        await wait_for(lambda: rig.service.why.health is Health.absent)
        with pytest.raises(AbsentError) as caught:
            await rig.service.desk.listen(ADA, None)
        status = rig.status
        assert (f"Nothing listens: {status.why}.", status.next_step) == (caught.value.message, caught.value.next_step)
        assert absence(status, ()) == ("no capture device", "plug one in")


async def test_wake_words_are_counted_on_when_the_microphone_comes_back(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking() as rig:
        for times in (1, 2):
            await rig.at(Stage.idle)
            script.hearing.hits.append(0.9)
            rig.say("hey spark what is the battery level")
            await rig.utterances(times)
            await rig.at(Stage.idle)
            heard = {each.phrase: (each.times, each.last) for each in rig.status.wake}
            assert heard["hey spark"][0] == times
            assert heard["hey prime"] == (0, 0.0)
            rig.cards.mic.here = False
            await rig.at(Stage.absent)
            rig.cards.mic.here = True
            await rig.at(Stage.idle)
            assert {each.phrase: (each.times, each.last) for each in rig.status.wake} == heard


async def test_without_a_program_that_speaks_it_says_how_to_install_it(speaking: Speaking, tmp_path: Path) -> None:
    """Also where something else is wrong besides."""

    def engines(kit: Kit, privacy: Callable[[], str]) -> TieredEngines:
        spoken = Espeak("en-us", 165, {"PATH": str(tmp_path)})
        return TieredEngines(kit.settings, kit.local, spoken, kit.ledger, FastClock(), privacy)

    async with speaking({"engines": engines}) as rig:
        await rig.at(Stage.idle)
        with pytest.raises(AbsentError, match="espeak-ng, which speaks, is not installed") as caught:
            await rig.service.desk.say("hello")
        assert caught.value.next_step == "apt install espeak-ng"
        await wait_for(lambda: rig.service.room.sound_problem == "silent")
        report = await rig.service.health()
    assert (report.health, report.next_step) == (Health.degraded, "apt install espeak-ng")
    assert report.reason == (
        "nothing is said aloud: espeak-ng, which speaks, is not installed; the microphone gives nothing but digital silence"
    )


async def test_muted_it_hears_nothing_also_after_a_restart(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.extend([1.0] * 5)
    async with speaking() as rig:
        await rig.at(Stage.idle)
        await rig.service.desk.mute(muted=True)
        assert rig.stage is Stage.muted
        rig.say("hey spark what is the battery level")
        await wait_for(lambda: rig.cards.mic.done)
        assert rig.status.utterances == ()
    async with speaking() as rig:
        await rig.at(Stage.muted)
        await rig.service.desk.mute(muted=False)
        await rig.at(Stage.idle)


async def test_what_does_not_work_is_said_once_and_that_it_works_again(speaking: Speaking, script: Scripted) -> None:
    class Tired:
        sentence = ""

    async with speaking() as rig:
        await rig.at(Stage.idle)
        script.hearing.words.append("what is the battery level")
        rig.service.room.degraded._sentence = lambda: Tired.sentence
        said: list[str] = []
        answer = rig.service.room.mouth.answer
        rig.service.room.mouth.answer = lambda *given: said_by(answer(*given), said)  # type: ignore[method-assign]
        for Tired.sentence in (
            "The cloud is away; I can do local commands.",
            "The cloud is away; I can do local commands.",
            "",
        ):
            await turn(rig)
            await rig.at(Stage.idle)
    assert said == ["Done.", "The cloud is away; I can do local commands.", "Done.", "Done.", "Everything works again."]


def said_by(answer: Any, said: list[str]) -> Any:
    """Keep what is added to an answer."""
    add = answer.add

    def kept(text: str) -> None:
        said.append(text)
        add(text)

    answer.add = kept
    return answer


async def test_events_have_times_and_no_words(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking() as rig:
        await rig.at(Stage.idle)
        await turn(rig)
        await wait_for(lambda: rig.events)
    name, facts = rig.events[0]
    assert (name, facts["outcome"], facts["origin"]) == ("voice.utterance", "done", "key")
    assert facts["timings_ms"]["stt"] == 10.0
    assert "battery level" not in str(facts)


async def test_events_have_words_where_the_operator_wants_that(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking(tell_words=True) as rig:
        await rig.at(Stage.idle)
        await turn(rig)
        await wait_for(lambda: rig.events)
    assert rig.events[0][1]["words"] == "what is the battery level"


async def test_metrics_tell_of_utterances(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking() as rig:
        await rig.at(Stage.idle)
        await turn(rig)
        await rig.at(Stage.idle)
        text = scrape(rig.state, [], rig.service.ground.observer.meter).written()[0].decode()
    assert 'voice_utterances_total{origin="key",outcome="done"} 1.0' in text
    assert "voice_to_action_seconds_count 1.0" in text
    assert "voice_microphone_up 1.0" in text


async def test_the_array_shows_the_stage_and_tells_the_direction(speaking: Speaking, script: Scripted) -> None:
    array = ScriptedArray()
    script.hearing.words.append("what is the battery level")
    async with speaking({"array": lambda: array}, array=True) as rig:
        await rig.at(Stage.idle)
        one = await turn(rig)
        await rig.at(Stage.idle)
        assert one.direction == 270
        assert [each for each in ("listening", "thinking", "speaking") if each not in array.shown] == []
        array.failing = True
        assert (await turn(rig)).outcome is Outcome.done
        await wait_for(lambda: rig.service.room.array_problem)
        report = await rig.service.health()
        assert report.health is Health.degraded
        assert "does not answer over USB" in report.reason
    assert array.closed


async def test_levels_are_measured_for_whoever_watches(speaking: Speaking) -> None:
    async with speaking() as rig:
        await rig.at(Stage.idle)
        assert not rig.state.watched(Section.sound)
        watch = rig.state.watch([Section.sound], lambda _: None)
        rig.say("one two three")
        await wait_for(lambda: _level(rig) is not None and _level(rig).rms_db > -40)
        watch.close()
        assert not rig.state.watched(Section.sound)


def _level(rig: Rig) -> Any:
    level = rig.state.get(Section.sound).value
    assert level is None or isinstance(level, SoundLevel)
    return level


async def test_a_test_recording_is_played_back(speaking: Speaking) -> None:
    async with speaking() as rig:
        await rig.at(Stage.idle)
        with pytest.raises(NotFoundError):
            await rig.service.desk.play("")
        assert await rig.service.desk.record(1.0) == {"seconds": 0.99}
        assert (await rig.service.desk.play(""))["seconds"] == 0.99
        assert len(b"".join(rig.cards.out.pcm)) == 31744


async def test_nobody_but_an_admin_lets_anything_leave_the_house(speaking: Speaking) -> None:
    async with speaking() as rig:
        with pytest.raises(NotAuthorizedError):
            await rig.service.desk.privacy("cloud", ADA)
        assert rig.status.privacy == "edge-only"
        await rig.service.desk.privacy("cloud", Actor("bob", Role.admin, "console"))
        assert rig.status.privacy == "cloud"
        await rig.service.desk.privacy("edge-only", ADA)
        assert rig.status.privacy == "edge-only"


async def test_sound_is_kept_only_where_it_is_wanted(speaking: Speaking, script: Scripted, tmp_path: Path) -> None:
    script.hearing.words.append("what is the battery level")
    kept = Memories(tmp_path / "memory")
    await kept.start()
    try:
        async with speaking({"memory": lambda: kept.memory}) as rig:
            await rig.at(Stage.idle)
            assert (await turn(rig)).kept == ""
            assert await rig.service.desk.recordings() == ()
        async with speaking({"memory": lambda: kept.memory}, keep_audio=True, keep_audio_days=2) as rig:
            await rig.at(Stage.idle)
            one = await turn(rig)
            (recording,) = await rig.service.desk.recordings()
            assert (recording.key, recording.words) == (one.kept, one.words)
            assert one.kept == f"sound/{one.utterance_id}"
            assert recording.expires == kept.clock.wall() + 2 * 86400
            assert 1.0 < recording.seconds < 4.0
            assert (await rig.service.desk.play(one.kept))["seconds"] == recording.seconds
            assert await rig.service.desk.forget("all") == {"forgotten": 1}
            with pytest.raises(NotFoundError):
                await rig.service.desk.play(one.kept)
    finally:
        await kept.stop()


class Cloud:
    """A tier that takes everything, in the cloud."""

    name, level, shared = "objects", 3, True

    def accepts(self, meta: Meta) -> bool:
        return True


def test_the_cloud_is_no_home_of_sound() -> None:
    tiers: Any = [Cloud()]
    replicas = Replicas(tiers)
    kept = Meta(namespace="voice", key="sound/1", kind=Kind.bytes, version="1")
    assert replicas.homes(kept) == ()
    assert replicas.homes(Meta(namespace="notes", key="1", kind=Kind.bytes, version="1")) == ("objects",)


@pytest.mark.parametrize(("named", "told"), [("auto", SpeakerStatus("auto")), ("", None)])
async def test_a_speaker_is_told_before_it_is_used(speaking: Speaking, named: str, told: SpeakerStatus | None) -> None:
    async with speaking(enabled="no", speaker=named) as rig:
        assert rig.service.status().speaker == told
        assert not rig.service.kit.has("speaker"), "nothing is made for it"
