"""Words, pieces, and the tree of sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.core.voice.local import cutting, files
from appliance.core.voice.local.deciding import accept, confidence, wake_score
from appliance.core.voice.local.tokens import Tokens, vocabulary
from appliance.core.voice.local.trie import Pieces, Trie
from appliance.core.voice.model import RATE
from appliance.core.voice.words import alike, normal, number_from, number_words, phonetic, without

WAKE = ("hey spark", "hey prime")


@pytest.fixture(scope="module")
def tokens(models: Path) -> Tokens:
    return Tokens(models / "voice" / files.NAME / "tokenizer.bin")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Set the volume to 25%.", "set the volume to twenty five percent"),
        ("What's the V.P.N. address?", "what is the vpn address"),
        ("Is the v p n up", "is the vpn up"),
        ("Off-grid, please!", "off grid please"),
        ("1,250 watts or 3.5", "one thousand two hundred fifty watts or three point five"),
        ("Don't restart 007", "do not restart zero zero seven"),
        ("  \u2026 ", ""),
    ],
)
def test_a_text_as_it_is_said(written: str, said: str) -> None:
    assert normal(written) == said


@pytest.mark.parametrize("number", [0, 7, 13, 20, 42, 100, 101, 999, 1000, 12_345, 1_000_001])
def test_numbers_there_and_back(number: int) -> None:
    assert number_from(number_words(number).split()) == number


@pytest.mark.parametrize("words", ["two three", "hundred", "twenty ten", "and five", "kafka"])
def test_what_is_no_number(words: str) -> None:
    assert number_from(words.split()) is None


@pytest.mark.parametrize(
    ("heard", "left"),
    [
        ("Hey Spark, what can you do?", "what can you do"),
        ("Hayes Park, set the mode.", "set the mode"),
        ("His park, what can you do?", "what can you do"),
        ("Hesparks at the power mode", "at the power mode"),
        ("Hey prime restart", "restart"),
        ("Show the alerts", "show the alerts"),
        ("Is Spark up?", "is spark up"),
        ("", ""),
    ],
)
def test_the_wake_phrase_is_taken_away(heard: str, left: str) -> None:
    assert without(heard, WAKE) == left


def test_what_sounds_alike_is_alike() -> None:
    assert phonetic("kafka") == phonetic("cafca")
    assert alike("redist service", "redis service") > 0.9 > alike("coffee machine", "redis service")


def test_pieces_are_those_of_the_model(tokens: Tokens) -> None:
    cut = tokens.cut(" Restart the redis service.")
    assert cut[:5] == (11654, 442, 278, 29825, 2669)
    assert tokens.text(cut) == "Restart the redis service."
    assert tokens.text(tokens.cut(" na\u00efve \u4f60\u597d")) == "na\u00efve \u4f60\u597d"


def test_a_vocabulary_that_breaks_off_is_told() -> None:
    with pytest.raises(ValueError, match="within a piece"):
        vocabulary(b"\x05abc")


def written(trie: Trie, at: Pieces, said: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], int]]:
    """All that a small tree allows, without pauses and marks."""
    for place in at.places:
        if place.sentence >= 0:
            yield said, place.sentence
        for piece, after in trie.onward(place).after.items():
            yield from written(trie, after, (*said, piece))
    for piece, after in at.after.items():
        yield from written(trie, after, (*said, piece))


def test_a_tree_has_every_way_of_writing(tokens: Tokens) -> None:
    texts = ("volume twenty five percent", "is v p n up")
    trie = Trie(texts, (), tokens.cut)
    ways = {(tokens.text(way), sentence) for way, sentence in written(trie, trie.start())}
    for text, sentence in (
        ("Volume 25%", 0),
        ("volume twenty-five percent", 0),
        ("Is VPN up", 1),
        ("Is v p n up", 1),
    ):
        assert (text, sentence) in ways
    assert {sentence for _, sentence in ways} == {0, 1}


def test_silence_at_the_end_makes_no_other_sound() -> None:
    speech = (3000 * np.sin(np.arange(RATE) / 7)).astype("<i2").tobytes()
    assert cutting.trimmed(speech + bytes(RATE // 2)) == cutting.trimmed(speech + bytes(2 * RATE))
    assert len(speech) < len(cutting.trimmed(speech + bytes(2 * RATE))) < len(speech) + RATE // 2


def test_long_sound_is_cut_where_it_is_quiet() -> None:
    sound = (3000 * np.sin(np.arange(30 * RATE) / 7)).astype("<i2")
    sound[10 * RATE : 10 * RATE + 2000] = 0
    parts = cutting.parts(sound.tobytes())
    assert b"".join(parts) == sound.tobytes()
    assert 10 * RATE <= len(parts[0]) // 2 <= 10 * RATE + 2000
    assert all(len(part) // 2 <= cutting.PART for part in parts)


def test_what_is_accepted() -> None:
    assert accept(-0.5, -0.6)
    assert not accept(-0.2, -2.4)
    assert not accept(-0.5, -0.6, -0.65)
    assert confidence(-0.5, -0.6) > 0.9
    assert confidence(-0.5, -0.6, -0.65) < 0.5
    assert wake_score(-1.0) > 0.9
    assert wake_score(-5.5) < 0.1
