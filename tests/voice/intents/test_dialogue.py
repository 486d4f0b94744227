"""Commands are carried out once, by whoever may; what is dangerous or doubtful waits for a yes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from appliance.core.model import Actor, Role
from appliance.core.state import Section
from appliance.core.voice.model import Guess, Outcome, Transcript
from tests.voice.intents.rig import VOICE, Rig

REBOOT = ("fleet.reboot", {"nodes": ["primecore2"]}, "microphone")


async def test_a_command_is_done_and_audited(rig: Rig) -> None:
    reply = await rig.say("Please restart the inference service.")
    assert (reply.outcome, reply.action, reply.args, reply.text) == (
        Outcome.done, "service.restart", {"name": "inference"}, "It runs again.",
    )  # fmt: skip
    assert rig.done == [("service.restart", {"name": "inference"}, "microphone")]
    assert rig.begun == ["service.restart"]
    assert await rig.outcomes() == [("service.restart", "started"), ("service.restart", "ok")]


async def test_a_dangerous_command_waits_for_its_yes_and_is_done_once(rig: Rig) -> None:
    asked = await rig.say("Reboot prime core two.")
    assert asked.outcome is Outcome.asked
    assert "Restart the machines primecore2?" in asked.text
    assert (asked.expects, rig.dialogue.expecting, rig.looks, rig.done, rig.begun) == ("confirm", "confirm", 1, [], [])
    replies = await asyncio.gather(rig.say("yes"), rig.say("yes please"))
    assert [each.outcome for each in replies] == [Outcome.done, Outcome.unknown]
    assert (rig.done, rig.begun) == ([REBOOT], ["fleet.reboot"])
    assert await rig.outcomes() == [("fleet.reboot", "started"), ("fleet.reboot", "ok")]


@pytest.mark.parametrize(
    "words", ["no", "No, thanks.", "cancel", "stop", "never mind", "no, yes", "do not", "wait yes", "abort"]
)
async def test_a_no_is_a_no(rig: Rig, words: str) -> None:
    await rig.say("reboot primecore2")
    assert (await rig.say(words)).outcome is Outcome.declined
    assert (await rig.say("yes")).outcome is Outcome.unknown
    assert rig.done == []


async def test_what_is_no_answer_is_asked_again_once(rig: Rig) -> None:
    await rig.say("reboot primecore2")
    assert (await rig.say("the weather is nice")).outcome is Outcome.asked
    assert (await rig.say("bananas")).outcome is Outcome.declined
    assert rig.dialogue.expecting == ""
    assert rig.done == []


async def test_another_command_declines_what_waits_and_is_taken(rig: Rig) -> None:
    await rig.say("reboot primecore2")
    reply = await rig.say("restart the redis service")
    assert (reply.outcome, reply.action) == (Outcome.done, "service.restart")
    assert "not done" in reply.text
    assert [name for name, _, _ in rig.done] == ["service.restart"]
    assert (await rig.say("yes")).outcome is Outcome.unknown


async def test_a_timeout_declines(rig: Rig) -> None:
    await rig.say("reboot primecore2")
    reply = await rig.dialogue.forget()
    assert reply is not None
    assert (reply.outcome, reply.action) == (Outcome.declined, "fleet.reboot")
    assert await rig.dialogue.forget() is None
    await rig.say("reboot primecore2")
    rig.clock.move(1000)
    assert rig.dialogue.expecting == ""
    assert (await rig.say("yes")).outcome is Outcome.unknown
    assert rig.done == []


async def test_nobody_else_says_yes(rig: Rig) -> None:
    await rig.say("reboot primecore2")
    assert (await rig.say("yes", Actor("bob", Role.admin, "voice"))).outcome is Outcome.unknown
    assert (await rig.say("yes")).outcome is Outcome.unknown
    assert rig.done == []


@pytest.mark.parametrize("role", list(Role), ids=str)
@pytest.mark.parametrize(
    ("words", "needs", "dangerous"),
    [
        ("how are the services", Role.viewer, False), ("show the users", Role.admin, False),
        ("restart the redis service", Role.operator, False), ("renew the certificate", Role.admin, False),
        ("reboot primecore3", Role.operator, True), ("abort the power plan", Role.admin, True),
    ],
    ids=["look", "look-admin", "change", "change-admin", "danger", "danger-admin"],
)  # fmt: skip
async def test_the_role_decides_and_danger_asks(rig: Rig, role: Role, words: str, needs: Role, dangerous: bool) -> None:
    actor = Actor("ann", role, "voice")
    reply = await rig.say(words, actor)
    if role < needs:
        assert reply.outcome is Outcome.refused
        assert f"needs the role {needs.value}, and you have {role.value} here" in reply.text
    elif dangerous:
        assert (reply.outcome, rig.done) == (Outcome.asked, [])
        reply = await rig.say("yes", actor)
    assert (reply.outcome is Outcome.done) == (len(rig.done) == 1) == (role >= needs)


@pytest.mark.parametrize(
    ("heard", "free", "fits", "outcome"),
    [
        ("restart the lemon tree service", -0.35, -1.29, Outcome.asked), ("with hot one hundred", -0.5, -1.1, Outcome.asked),
        ("restart the lamont reserve list", -0.75, -1.26, Outcome.done),
        ("bury start dealers service", -0.7, -0.8, Outcome.done),
        ("restart the memories service", -0.4, -1.3, Outcome.done),
    ],
    ids=["other-word", "nonsense", "half", "fits-as-well", "nearly-the-words"],
)  # fmt: skip
async def test_a_change_that_was_heard_otherwise_is_asked_about(
    rig: Rig, heard: str, free: float, fits: float, outcome: Outcome
) -> None:
    """Real figures of spoken sentences; a question is answered all the same."""
    guesses = (Guess("restart the memory service", fits),)
    reply = await rig.say(heard, score=free, guesses=guesses)
    assert (reply.outcome, reply.understood) == (outcome, "restart the memory service")
    assert len(rig.done) == (outcome is Outcome.done)
    looked = await rig.say(heard, score=free, guesses=(Guess("how are the services", fits),))
    assert (looked.outcome, looked.action) == (Outcome.done, "service.list")


async def test_a_name_that_was_missing_makes_no_doubtful_change_sure(rig: Rig) -> None:
    asked = await rig.say("resort servers", score=-0.6, guesses=(Guess("restart a service", -1.5),))
    assert (asked.expects, asked.action) == ("slot", "service.restart")
    assert (await rig.say("inference")).text.startswith("Did you mean: restart a service, inference?")
    assert rig.done == []


async def test_doubt_about_a_change_is_asked_about(rig: Rig) -> None:
    asked = await rig.say("restart the mammary service")
    assert (asked.outcome, asked.text) == (Outcome.asked, "Did you mean: restart the memory service? Say yes or no.")
    assert rig.done == []
    assert (await rig.say("yes")).outcome is Outcome.done
    assert rig.done == [("service.restart", {"name": "memory"}, "microphone")]


@pytest.mark.parametrize(
    "words",
    ["do not restart the memory service", "start the memory service", "how is prime core seven", "reboot prime core four",
     "restart the moon", "set the power mode to four", "silence is golden", "the memory service was restarted",
     "set the power mode to on", "memory memory memory", "on", "not", "prime core two and prime core three"],
)  # fmt: skip
async def test_near_misses_do_nothing(rig: Rig, words: str) -> None:
    reply = await rig.say(words)
    nameless = reply.outcome is Outcome.refused and reply.text.startswith("There is no mode ")
    assert nameless or reply.outcome in {Outcome.unknown, Outcome.asked}
    assert rig.done == []


async def test_a_sure_sentence_of_the_sound_counts(rig: Rig) -> None:
    guesses = (Guess("restart the redis service", -0.1), Guess("restart the memory service", -3.0))
    reply = await rig.say("three start the readies surface", score=-0.2, guesses=guesses)
    assert (reply.outcome, reply.args) == (Outcome.done, {"name": "redis"})


async def test_a_sentence_that_the_sound_fits_only_just_is_asked_about(rig: Rig) -> None:
    reply = await rig.say("three start the readies surface", score=-0.2, guesses=(Guess("restart the redis service", -1.8),))
    assert (reply.outcome, rig.done) == (Outcome.asked, [])
    reply = await rig.say("no")
    assert reply.outcome is Outcome.declined
    reply = await rig.say("hour the services", score=-0.2, guesses=(Guess("how are the services", -1.8),))
    assert (reply.outcome, reply.action) == (Outcome.done, "service.list")


async def test_sound_and_words_that_disagree_are_asked_about(rig: Rig) -> None:
    guesses = (Guess("restart the redis service", -0.1),)
    reply = await rig.say("restart the memory service", score=-0.2, guesses=guesses)
    assert reply.outcome is Outcome.asked
    assert rig.done == []


async def test_what_is_missing_is_asked_for(rig: Rig) -> None:
    asked = await rig.say("restart a service")
    assert (asked.outcome, asked.expects) == (Outcome.asked, "slot")
    assert asked.text == "Which service? There are: inference, memory, telemetry and redis."
    assert set(rig.dialogue.sentences().texts) >= {"inference", "redis", "cancel"}
    assert (await rig.say("the redis")).outcome is Outcome.done
    assert rig.done == [("service.restart", {"name": "redis"}, "microphone")]
    await rig.say("restart a service")
    assert (await rig.say("cancel")).outcome is Outcome.declined
    await rig.say("reboot a machine")
    asked = await rig.say("prime core three")
    assert (asked.outcome, asked.expects) == (Outcome.asked, "confirm")
    assert len(rig.done) == 1


async def test_a_name_that_was_misheard_is_asked_about(rig: Rig) -> None:
    await rig.say("restart a service")
    asked = await rig.say("telemetree")
    assert (asked.outcome, rig.done) == (Outcome.asked, [])
    assert (await rig.say("yes")).args == {"name": "telemetry"}


async def test_what_speaks_against_it_is_told(rig: Rig) -> None:
    rig.why_not = "it is being upgraded"
    reply = await rig.say("restart the redis service")
    assert (reply.outcome, reply.text) == (Outcome.refused, "Service.restart cannot run now: it is being upgraded.")


async def test_what_is_never_done_by_voice_says_why(rig: Rig) -> None:
    reply = await rig.say("remove the user redis", Actor("ada", Role.admin, "voice"))
    assert (reply.outcome, reply.action, rig.done) == (Outcome.refused, "user.remove", [])
    assert "cannot be taken back" in reply.text


async def test_it_repeats_thanks_helps_and_stops(rig: Rig) -> None:
    first = await rig.say("is the redis service running")
    assert first.text == "Redis is degraded: it is slow."
    assert (await rig.say("repeat that")).text == first.text
    assert (await rig.say("say that again")).text == first.text
    assert (await rig.say("stop")).outcome is Outcome.cancelled
    assert "services" in (await rig.say("what can you do")).text
    assert "set power mode to auto" in (await rig.say("help with power")).text
    assert (await rig.say("thank you")).outcome is Outcome.done
    assert (await rig.say("")).outcome is Outcome.empty


async def test_whole_commands_need_no_further_silence(rig: Rig) -> None:
    def whole(words: str) -> bool:
        return rig.dialogue.whole(Transcript(words, "test"))

    assert whole("set the power mode to auto")
    assert whole("restart the redis service")
    assert not whole("reboot prime core two")
    assert not whole("restart the")
    assert not whole("restart a service")
    assert not whole("restart the mammary service")
    heard = Transcript("how are survives is", "test", score=-0.6)
    assert rig.dialogue.whole(msgspec.structs.replace(heard, guesses=(Guess("how are the services", -0.9),)))
    assert not rig.dialogue.whole(msgspec.structs.replace(heard, guesses=(Guess("how are the services", -2.3),)))
    assert not rig.dialogue.whole(msgspec.structs.replace(heard, guesses=(Guess("restart the redis service", -0.7),)))
    assert not whole("how are the")
    await rig.say("reboot primecore2")
    assert not whole("yes")


async def test_sentences_follow_what_is_there_and_what_is_asked(rig: Rig) -> None:
    before = rig.dialogue.sentences()
    assert before.key == rig.dialogue.sentences().key
    assert rig.dialogue.sentences().texts is before.texts
    assert "reboot prime core two" in before.texts
    fleet = rig.state.get(Section.fleet).value
    rig.state.put(Section.fleet, type(fleet)(nodes=fleet.nodes[1:]))
    after = rig.dialogue.sentences()
    assert after.key != before.key
    assert "reboot prime core two" not in after.texts
    await rig.say("reboot prime core three")
    assert "restart the redis service" not in rig.dialogue.sentences().texts
    assert {"yes", "no"} <= set(rig.dialogue.sentences().texts)


async def test_a_role_that_changed_meanwhile_counts(rig: Rig) -> None:
    await rig.say("reboot primecore2")
    assert (await rig.say("yes", Actor(VOICE.name, Role.viewer, "voice"))).outcome is Outcome.unknown
    assert rig.done == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("set the power mode to eco", "There is no mode eco. There are: auto, on grid and off grid."),
        ("restart the tachyon service", "There is no service tachyon. There are: inference, memory, telemetry and redis."),
        ("what is the temperature of the sun", ""),
        ("restart my whole life and everything", ""),
    ],
)
async def test_a_name_that_there_is_not_is_told_with_those_that_there_are(rig: Rig, words: str, told: str) -> None:
    reply = await rig.say(words)
    assert (reply.text == told, reply.outcome) == ((True, Outcome.refused) if told else (False, Outcome.unknown)), reply
    assert rig.done == []


async def test_the_appliance_itself_is_not_restarted_by_voice_and_that_is_said(rig: Rig) -> None:
    reply = await rig.say("restart the appliance")
    assert (reply.outcome, rig.done) == (Outcome.done, [])
    assert "restarted on its console" in reply.text
