"""Turns, from the wake word to the last word of the answer."""

from __future__ import annotations

import asyncio

import pytest

from appliance.core.model import Actor, Role
from appliance.core.voice.model import Outcome, Reply, Stage
from appliance.errors import AbsentError, ConflictError
from tests.support import wait_for
from tests.voice.pipeline.conftest import Scripted, Speaking

ADA = Actor("ada", Role.viewer, "console")


async def test_a_command_in_one_breath_is_carried_out_and_answered(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.append(0.9)
    script.hearing.words.append("Hey spark, what is the battery level?")
    script.talker.replies.append(Reply(
        "It is at 80 percent.", Outcome.done, action="power.status", confidence=0.9, understood="what is the battery level",
    ))  # fmt: skip
    async with speaking() as rig:
        await rig.at(Stage.idle)
        rig.say("hey spark what is the battery level")
        (one,) = await rig.utterances(1)
        await rig.at(Stage.idle)
        stages = list(rig.heard)
    assert (one.words.lower().rstrip("?"), one.outcome, one.action) == (
        "what is the battery level",
        Outcome.done,
        "power.status",
    )
    assert (one.origin, one.wake_word, one.wake_score) == ("microphone", "hey spark", 0.9)
    assert (one.reply, one.understood) == ("It is at 80 percent.", "what is the battery level")
    assert script.hearing.lengths[-1] > 1.8, "the beginning of the breath was lost"
    assert script.hearing.wanted is not None
    assert script.hearing.wanted.before == ("hey spark", "hey prime")
    assert None not in {one.timings.speech, one.timings.endpoint, one.timings.stt, one.timings.to_action, one.timings.to_sound}
    assert rig.cards.out.pcm, "nothing was said aloud"
    assert [stage for stage in stages if stage in {Stage.listening, Stage.speaking}] == [Stage.listening, Stage.speaking]


async def test_after_the_wake_word_alone_it_waits_for_the_command(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.append(0.9)
    script.hearing.words.append("Restart the gateway.")
    async with speaking() as rig:
        await rig.at(Stage.idle)
        rig.say("hey spark", "restart the gateway", gap=1.2)
        (one,) = await rig.utterances(1)
    assert [text for text, _ in script.talker.heard] == ["restart the gateway"]
    assert len(script.hearing.lengths) == 1, "what is no more than the wake word was recognised, or its end taken for speech"
    assert script.hearing.lengths[-1] > 1.0
    assert one.wake_word == "hey spark"


async def test_nobody_speaks_after_the_wake_word(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.append(0.9)
    script.hearing.words.append("Hey spark.")
    async with speaking(listen_seconds=1.5) as rig:
        await rig.at(Stage.idle)
        rig.say("hey spark")
        (one,) = await rig.utterances(1)
        await rig.at(Stage.idle)
    assert (one.outcome, one.words, one.reply) == (Outcome.empty, "", "")
    assert script.talker.heard == []


async def test_a_whole_command_does_not_wait_out_the_silence(speaking: Speaking, script: Scripted) -> None:
    script.talker.sure = True
    script.hearing.words.append("what is the battery level")
    async with speaking(end_silence_ms=3000) as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("what is the battery level", gap=4.0)
        one = await turn
    assert one.timings.endpoint is not None
    assert one.timings.endpoint < 3000
    assert len(script.hearing.lengths) == 1, "the guess in the pause was not used"


async def test_a_pause_inside_a_sentence_is_not_its_end(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.extend(["restart the", "restart the gateway"])
    async with speaking(end_silence_ms=900) as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("restart the", "gateway", gap=0.5, after=1.5)
        await turn
    assert [text for text, _ in script.talker.heard] == ["restart the gateway"]
    assert script.hearing.lengths[-1] > script.hearing.lengths[0]


async def test_the_key_acts_with_the_role_of_whoever_presses_it(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking(role="admin", follow_up_seconds=5) as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        with pytest.raises(ConflictError, match="being served"):
            await rig.service.desk.listen(ADA, None)
        rig.say("what is the battery level")
        one = await turn
        await rig.at(Stage.idle)
    assert (one.origin, one.wake_word) == ("key", "")
    assert script.talker.heard == [("what is the battery level", ADA)]
    assert Stage.following not in rig.heard, "somebody else could have gone on with that role"


async def test_two_wake_words_at_once_make_one_turn(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking() as rig:
        await rig.at(Stage.idle)
        ear = rig.service.ear
        assert ear is not None
        from appliance.core.voice.model import Hit

        rig.say("what is the battery level")
        ear.woken(Hit("hey spark", 0.8, "a"), ear.time)
        ear.woken(Hit("hey prime", 0.9, "b"), ear.time)
        (one,) = await rig.utterances(1)
        await rig.at(Stage.idle)
        assert len(rig.status.utterances) == 1
    assert one.wake_word == "hey spark"


async def test_an_utterance_too_long_is_cut_off_and_told_so(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("one two three four")
    async with speaking(utterance_seconds=2) as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("one two three four five six seven eight nine ten eleven twelve", gap=0.1)
        one = await turn
    assert one.note == "cut off after 2 s"
    assert max(script.hearing.lengths) < 3.0


async def test_the_confirmation_that_does_not_come_is_a_no(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("shut down")
    script.talker.replies.append(Reply("Shall I shut down?", Outcome.asked, action="", expects="confirm"))
    async with speaking(confirm_seconds=2) as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("shut down")
        assert (await turn).outcome is Outcome.asked
        await rig.at(Stage.confirming)
        assert rig.status.asking == "Shall I shut down?"
        newest, _ = await rig.utterances(2)
        await rig.at(Stage.idle)
    assert (newest.outcome, newest.origin) == (Outcome.declined, "follow-up")
    assert script.talker.forgot == 1
    assert rig.service.status().asking == ""


async def test_a_yes_needs_no_wake_word(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.extend(["shut down", "yes"])
    script.talker.replies.append(Reply("Shall I?", Outcome.asked, expects="confirm"))
    async with speaking() as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("shut down")
        await turn
        await rig.at(Stage.confirming)
        rig.say("yes please")
        await rig.utterances(2)
    assert script.talker.heard == [("shut down", ADA), ("yes", ADA)]


async def test_whoever_goes_on_after_an_answer_is_heard_without_the_name(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.append(0.9)
    script.hearing.words.extend(["what is the battery level", "restart the gateway"])
    async with speaking(follow_up_seconds=4) as rig:
        await rig.at(Stage.idle)
        rig.say("hey spark what is the battery level")
        await rig.at(Stage.following)
        rig.say("restart the gateway")
        newest, _ = await rig.utterances(2)
        await rig.at(Stage.idle)
    assert (newest.origin, newest.words) == ("follow-up", "restart the gateway")
    assert len(rig.status.utterances) == 2, "silence after an answer is no utterance"


async def test_the_wake_word_silences_an_answer(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.append(0.9)
    script.hearing.words.extend(["what is the battery level", "restart the gateway"])
    script.talker.replies.append(Reply("This is a very long answer. " * 20, Outcome.answered, source="llm"))
    async with speaking() as rig:
        await rig.at(Stage.idle)
        rig.say("hey spark what is the battery level")
        await rig.at(Stage.speaking)
        await wait_for(lambda: rig.cards.out.playing)
        script.hearing.hits.append(0.95)
        rig.say("hey spark restart the gateway")
        newest, first = await rig.utterances(2)
    assert first.note == "barged in"
    assert (newest.origin, newest.words) == ("microphone", "restart the gateway")
    assert rig.cards.out.stopped


async def test_its_own_words_do_not_wake_it(speaking: Speaking, script: Scripted) -> None:
    script.hearing.hits.append(0.9)
    script.hearing.words.append("what is the battery level")
    script.talker.replies.append(Reply("Say hey spark, and then your command. " * 4, Outcome.done))
    async with speaking() as rig:
        await rig.at(Stage.idle)
        rig.say("hey spark what is the battery level")
        await wait_for(lambda: rig.cards.out.playing)
        script.hearing.hits.extend([1.0] * 20)
        looked = len(script.hearing.looked)
        rig.say("hey spark and then", "hey spark and then", gap=0.4)
        await wait_for(lambda: len(script.hearing.looked) > looked, message="it looked for wake words while it spoke")
        (one,) = await rig.utterances(1)
    assert one.note == ""


async def test_cancel_ends_a_turn(speaking: Speaking) -> None:
    async with speaking() as rig:
        await rig.at(Stage.idle)
        assert await rig.service.desk.cancel() == {"cancelled": False}
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        assert await rig.service.desk.cancel() == {"cancelled": True}
        assert (await turn).outcome is Outcome.cancelled
        await rig.at(Stage.idle)


async def test_the_key_silences_an_answer_and_listens(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    script.talker.replies.append(Reply("This is a very long answer. " * 20, Outcome.done))
    async with speaking() as rig:
        await rig.at(Stage.idle)
        first = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("what is the battery level")
        await wait_for(lambda: rig.cards.out.playing)
        second = asyncio.create_task(rig.service.desk.listen(ADA, None))
        silenced = await first
        await rig.at(Stage.listening)
        rig.say("what is the battery level")
        assert (await second).outcome is Outcome.done
    assert (silenced.outcome, silenced.note) == (Outcome.done, "silenced")


async def test_an_answer_without_a_speaker_is_shown_and_noted(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking() as rig:
        await rig.at(Stage.idle)
        rig.cards.out.problem = AbsentError("There is no output device.", "plug a speaker in.")
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("what is the battery level")
        one = await turn
        assert (one.reply, one.outcome) == ("Done.", Outcome.done)
        assert one.note == "not said aloud: There is no output device"
        report = await rig.service.health()
    assert (report.health.value, report.next_step) == ("degraded", "plug a speaker in.")


async def test_a_microphone_that_goes_away_in_a_turn_ends_it_and_comes_back(speaking: Speaking, script: Scripted) -> None:
    script.hearing.words.append("what is the battery level")
    async with speaking() as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.cards.mic.here = False
        one = await turn
        assert one.outcome is Outcome.failed
        assert "the microphone went away" in one.note
        await rig.at(Stage.absent)
        report = await rig.service.health()
        assert report.health.value == "unhealthy"
        assert report.reason.startswith("the test's microphone")
        rig.cards.mic.here = True
        await rig.at(Stage.idle)
        assert (await rig.service.health()).health.value == "healthy"


async def test_a_recognition_that_fails_is_told(speaking: Speaking, script: Scripted) -> None:
    script.hearing.failing = True
    async with speaking() as rig:
        await rig.at(Stage.idle)
        turn = asyncio.create_task(rig.service.desk.listen(ADA, None))
        await rig.at(Stage.listening)
        rig.say("what is the battery level")
        one = await turn
        assert one.outcome is Outcome.failed
        assert "the recognition was killed" in one.reply
        assert rig.cards.out.pcm, "it was not said"
        report = await rig.service.health()
    assert report.health.value == "unhealthy"
