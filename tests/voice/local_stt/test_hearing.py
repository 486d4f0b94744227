"""What is heard: commands, other speech, noise, and long speech."""

from __future__ import annotations

import pytest

from appliance.core.voice.local.deciding import accept
from appliance.core.voice.local.recognizer import LocalSpeechToText
from appliance.core.voice.model import NO_SENTENCES, RATE, Transcript
from appliance.core.voice.words import normal
from tests.voice.local_stt.conftest import GRAMMAR, say

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPOKEN = (
    ("en-us", "restart service kafka"),
    ("en-gb", "restart the redis service"),
    ("slt", "restart service kafka"),
    ("rms", "set power mode to off grid"),
    ("awb", "stop the prometheus service"),
    ("en-gb", "what is the temperature of the nas"),
    ("slt", "is the vpn up"),
    ("awb", "set the volume to twenty five percent"),
)
OTHERS = (
    ("slt", "he hoped there would be stew for dinner, turnips and carrots"),
    ("rms", "the children are playing football in the garden"),
    ("en-us", "i would like a cup of tea please"),
)


def accepted(heard: Transcript) -> bool:
    assert heard.score is not None
    second = heard.guesses[1].score if len(heard.guesses) > 1 else None
    return bool(heard.guesses) and accept(heard.score, heard.guesses[0].score, second)


@pytest.mark.parametrize(("voice", "text"), SPOKEN, ids=lambda each: each.replace(" ", "-"))
async def test_a_command_is_heard(shared: LocalSpeechToText, voice: str, text: str) -> None:
    heard = await shared.transcribe(say(text, voice), GRAMMAR)
    assert heard.guesses[0].text == text
    assert accepted(heard)


async def test_the_grammar_hears_what_free_writing_does_not(shared: LocalSpeechToText) -> None:
    heard = await shared.transcribe(say("restart the redis service", "en-gb"), GRAMMAR)
    assert normal(heard.text) != "restart the redis service"
    assert heard.guesses[0].text == "restart the redis service"


async def test_a_wake_phrase_before_it_is_no_part_of_it(shared: LocalSpeechToText) -> None:
    heard = await shared.transcribe(say("hey spark, what can you do", "awb"), GRAMMAR)
    assert heard.guesses[0].text == "what can you do"
    assert accepted(heard)


@pytest.mark.parametrize(("voice", "text"), OTHERS, ids=lambda each: each.split(",")[0].replace(" ", "-"))
async def test_other_speech_is_no_command(shared: LocalSpeechToText, voice: str, text: str) -> None:
    heard = await shared.transcribe(say(text, voice), GRAMMAR)
    assert heard.text
    assert not accepted(heard)


@pytest.mark.parametrize("kind", ["nothing", "silence", "hiss", "hum", "clicks"])
async def test_noise_has_no_words(shared: LocalSpeechToText, kind: str) -> None:
    heard = await shared.transcribe(noise(kind), GRAMMAR)
    assert (heard.text, heard.guesses) == ("", ())


async def test_a_minute_of_speech_is_heard_to_its_end(shared: LocalSpeechToText) -> None:
    once = say("the children are playing football in the garden.", "rms") + bytes(RATE)
    pcm = (once * 40)[: 60 * RATE * 2]
    heard = await shared.transcribe(pcm, GRAMMAR)
    spoken = len(pcm) // len(once)
    assert spoken - 4 <= normal(heard.text).count("football") <= spoken
    assert heard.seconds == 60
    assert heard.guesses == ()


async def test_the_same_sound_again_is_no_recognition(shared: LocalSpeechToText) -> None:
    sound = say("set the volume to forty percent", "slt")
    first = await shared.transcribe(sound, GRAMMAR)
    took = (await shared.check()).last_ms
    again = await shared.transcribe(sound, GRAMMAR)
    assert (again.text, again.score, again.guesses) == (first.text, first.score, first.guesses)
    assert (first.kept, again.kept) == (False, True)
    assert (await shared.check()).last_ms == took


async def test_without_sentences_there_are_no_guesses(shared: LocalSpeechToText) -> None:
    heard = await shared.transcribe(say("what is the battery level", "rms"), NO_SENTENCES)
    assert normal(heard.text) == "what is the battery level"
    assert heard.guesses == ()


@pytest.mark.parametrize("phrase", GRAMMAR.before)
async def test_a_wake_phrase_is_spotted(shared: LocalSpeechToText, phrase: str) -> None:
    for voice in ("en-gb", "slt", "rms"):
        hits = await shared.spot(say(f"{phrase}, what is the time", voice)[: 3 * RATE], GRAMMAR.before)
        assert hits[0].phrase == phrase
        assert hits[0].score >= 0.5
        assert hits[1].score < 0.1


@pytest.mark.parametrize("text", ["hey siri", "hey google", "the park", "okay mark"])
async def test_what_is_like_a_wake_phrase_is_none(shared: LocalSpeechToText, text: str) -> None:
    hits = await shared.spot(say(text, "slt"), GRAMMAR.before)
    assert max(hit.score for hit in hits) < 0.5


def noise(kind: str) -> bytes:
    """A second and a half of it."""
    import numpy as np

    count = RATE * 3 // 2
    at = np.arange(count)
    made = {
        "nothing": np.zeros(0),
        "silence": np.zeros(count),
        "hiss": np.random.default_rng(1).normal(0, 0.03, count),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * at / RATE),
        "clicks": 0.2 * (at % 8000 < 40),
    }
    return (made[kind] * 32767).astype("<i2").tobytes()
