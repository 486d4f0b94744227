"""What no command means goes to a language model: a scripted server that speaks Ollama's protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from appliance.core.voice.intents import talk
from appliance.core.voice.model import Outcome
from tests.llm.rig import endpoint, running
from tests.llm.upstreams import FakeOllama, up
from tests.support import wait_for
from tests.voice.intents.rig import Rig

WORDS = ("The sky", " is blue", ". It scat", "ters light.", " Ask me more")


@asynccontextmanager
async def talking(
    directory: Path, place: str = "edge", privacy: str = "edge-only", **settings: Any
) -> AsyncIterator[tuple[Rig, FakeOllama]]:
    fake = FakeOllama()
    fake.words = WORDS
    async with up(fake), running(directory / "llm", {"it": endpoint(fake, place)}, default_model="llama3.2") as llm:
        rig = Rig(directory, lambda: llm.gateway, privacy, **settings)
        try:
            yield rig, fake
        finally:
            rig.close()


async def test_an_answer_comes_sentence_by_sentence(tmp_path: Path) -> None:
    async with talking(tmp_path) as (rig, fake):
        reply = await rig.say("Why is the sky blue?")
        assert (reply.outcome, reply.source) == (Outcome.answered, "llm")
        assert rig.streamed == ["The sky is blue.", "It scatters light.", "Ask me more"]
        assert reply.text == " ".join(rig.streamed)
        messages = fake.asked[0][1]["messages"]
        assert "read aloud" in messages[0]["content"]
        assert "Live state" not in messages[0]["content"]
        assert messages[-1] == {"role": "user", "content": "Why is the sky blue?"}
        assert rig.done == []


async def test_the_last_turns_go_along_and_are_forgotten(tmp_path: Path) -> None:
    async with talking(tmp_path) as (rig, fake):
        await rig.say("Why is the sky blue?")
        await rig.say("And at night, what about it?")
        sent = [each["content"] for each in fake.asked[1][1]["messages"][1:]]
        assert sent == [
            "Why is the sky blue?",
            "The sky is blue. It scatters light. Ask me more",
            "And at night, what about it?",
        ]
        rig.clock.move(talk.FORGOTTEN + 1)
        await rig.say("And in the morning, what then?")
        assert len(fake.asked[2][1]["messages"]) == 2
        for number in range(talk.TURNS + 3):
            await rig.say(f"Tell me a story about number {number} of them")
        assert len(fake.asked[-1][1]["messages"]) == 2 + 2 * talk.TURNS


async def test_questions_about_the_state_take_it_along(tmp_path: Path) -> None:
    async with talking(tmp_path) as (rig, fake):
        await rig.say("Could the slow redis have broken the whole fleet somehow?")
        assert "redis is degraded: it is slow" in fake.asked[0][1]["messages"][0]["content"]


async def test_nothing_goes_to_the_cloud_that_must_not(tmp_path: Path) -> None:
    async with talking(tmp_path, "cloud") as (rig, fake):
        reply = await rig.say("Why is the sky blue?")
        assert (reply.outcome, fake.asked, rig.streamed) == (Outcome.failed, [], [])
        assert "nothing may leave it" in reply.text


async def test_the_cloud_answers_where_it_may_and_is_missed_where_it_is_away(tmp_path: Path) -> None:
    async with talking(tmp_path, "cloud", "cloud") as (rig, fake):
        assert (await rig.say("Why is the sky blue?")).outcome is Outcome.answered
        fake.always = "500"
        reply = await rig.say("Why is the grass green?")
        assert (reply.outcome, reply.text, reply.source) == (Outcome.failed, talk.AWAY, "local")


async def test_a_failure_in_the_house_says_why(tmp_path: Path) -> None:
    async with talking(tmp_path) as (rig, fake):
        fake.always = "500"
        reply = await rig.say("Why is the sky blue?")
        assert reply.outcome is Outcome.failed
        assert reply.text.endswith("I can do local commands.")
        assert "500" in reply.text or "terminated" in reply.text


async def test_an_answer_that_breaks_off_is_said_to(tmp_path: Path) -> None:
    async with talking(tmp_path) as (rig, fake):
        fake.words = ("First.", " Second", " part", " of it.")
        fake.always = "cut"
        reply = await rig.say("Why is the sky blue?")
        assert reply.outcome is Outcome.failed
        assert rig.streamed[0] == "First."
        assert len(rig.streamed) > 1
        assert reply.text == " ".join(rig.streamed)


async def test_a_model_that_hangs_is_given_up(tmp_path: Path) -> None:
    async with talking(tmp_path) as (rig, fake):
        rig.dialogue._talk._deadline = 0.3
        fake.always = "hang"
        reply = await rig.say("Why is the sky blue?")
        assert (reply.outcome, reply.text) == (Outcome.failed, "The language model took longer than 0.3 seconds.")
        await wait_for(lambda: fake.cancelled == 1)


async def test_no_model_is_asked_where_none_is_wanted(tmp_path: Path) -> None:
    async with talking(tmp_path, llm=False) as (rig, fake):
        reply = await rig.say("Why is the sky blue?")
        assert (reply.outcome, fake.asked) == (Outcome.unknown, [])
        assert reply.text.startswith("I did not understand that.")


async def test_without_a_model_it_says_so(rig: Rig) -> None:
    reply = await rig.say("Why is the sky blue?")
    assert reply.outcome is Outcome.unknown
    assert "no language model is configured" in reply.text
