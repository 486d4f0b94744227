"""What a screen writes is said as people say it; whatever comes, nothing in it steers the program that speaks."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.voice.local.sentences import CODE, LONGEST, Sentences, split
from appliance.core.voice.local.spoken import speakable

SAID = {
    "The battery is at 62 %.": "The battery is at 62 percent.",
    "1 ms, 12 ms, 5 °C": "1 millisecond, 12 milliseconds, 5 degrees",
    "3.5 GiB, 100 Mbit/s, 2.4 GHz": "3.5 gibibytes, 100 megabits per second, 2.4 gigahertz",
    "5.1 V at 1.5 A, 40 Wh": "5.1 volts at 1.5 amperes, 40 watt hours",
    "3090 requests/s, 5 MB/s": "3090 requests per second, 5 megabytes per second",
    "-5 °C to −3 °C": "minus 5 degrees to minus 3 degrees",
    "10–20 W, ~5 W, ≥ 3": "10 to 20 watts, about 5 watts, at least 3",
    "1,234,567 B": "1234567 bytes",
    "10.8.0.2": "10 dot 8 dot 0 dot 2",
    "10.8.0.0/24, 10.8.0.2:8080": "10 dot 8 dot 0 dot 0 slash 24, 10 dot 8 dot 0 dot 2 port 8080",
    "nas.local is up": "nas dot local is up",
    "since 07:05, until 14:32:10, at 9:00": "since 7 oh 5, until 14 32, at 9 o'clock",
    "on 2026-11-22 it rained": "on 22 November 2026 it rained",
    "id 550e8400-e29b-41d4-a716-44665544a1b2": "id the one ending in a, 1, b, 2",
    "01HXYZABCDEFGHJKMNPQ": "the one ending in m, n, p, q",
    "see [the docs](https://x.example/y), https://me:pw@site.example/a?b=c.": "see the docs, site dot example.",
    "**Note**: `primecore3` is _up_": "Note: primecore3 is up",
    "# Title\n- one\n- two": "Title. one. two",
    "| a | b |\n|---|---|\n| 1 | 2 |": "a, b, 1, 2",
    "node_exporter → gateway & more": "node exporter to gateway and more",
    "UPS on battery": "U P S on battery",
    "<speak>hi</speak> 😀": "hi",
    "[[h@l'oU]]": "h@l'oU",
    "-v de": "-v de",
    "a < b > c": "a less than b more than c",
    "***": "",
    "😀": "",
    "": "",
}


@pytest.mark.parametrize("written", SAID)
def test_what_is_written_is_said(written: str) -> None:
    assert speakable(written) == SAID[written]


def test_a_long_text_is_cut() -> None:
    assert len(speakable("word " * 10_000)) <= 2000


TEXTS = st.text(
    st.one_of(st.characters(), st.sampled_from("0123456789.,:;-–/%°CmsWA[]()*_`|# \n<>&=~\x01\x1b\ue000")), max_size=80
)
PARTS = st.lists(st.sampled_from([*SAID, "e.g. ", "Dr. ", "```\n", "\n", ". ", "? ", "x" * 200, " "]), max_size=8).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.one_of(TEXTS, PARTS))
def test_nothing_steers_the_program_that_speaks(text: str) -> None:
    said = speakable(text)
    assert not re.search(r"\[\[|[<>\\^|#`*]", said)
    assert all(unicodedata.category(char)[0] != "C" for char in said)
    assert said == said.strip()
    assert not said or re.search(r"[^\W_]", said)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(list(SAID)), max_size=5).map(" ".join))
def test_saying_it_again_changes_nothing(text: str) -> None:
    assert speakable(speakable(text)) == speakable(text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Yes. It is at 3.5 V, e.g. low. All is well!", ["Yes.", "It is at 3.5 volts, e.g. low.", "All is well!"]),
        ("Note: do this. 1. First.\n2. Second", ["Note: do this.", "1. First.", "2. Second"]),
        ("Run this:\n```sh\nrm -rf x. y\n```\nDone?", ["Run this", CODE, "Done?"]),
        ("He said \"No.\" Then he left...", ["He said No.", "Then he left."]),
        ("", []),
        ("no end", ["no end"]),
    ],
    ids=["abbreviation", "list", "code", "quotes", "empty", "open"],
)  # fmt: skip
def test_a_text_is_cut_into_sentences(text: str, sentences: list[str]) -> None:
    assert split(text) == sentences


def test_a_sentence_comes_as_soon_as_it_is_whole() -> None:
    sentences = Sentences()
    assert sentences.feed("The UPS is on bat") == []
    assert sentences.feed("tery.") == []
    assert sentences.feed(" It") == ["The U P S is on battery."]
    assert sentences.close() == ["It"]
    assert sentences.close() == []


def test_a_sentence_without_an_end_is_cut_between_words() -> None:
    said = split("word " * 200)
    assert all(len(each) <= LONGEST for each in said)
    assert " ".join(said).split() == ["word"] * 200


@settings(max_examples=100, deadline=None)
@given(st.one_of(TEXTS, PARTS), st.lists(st.integers(0, 400), max_size=8))
def test_how_a_text_is_divided_makes_no_difference(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    sentences = Sentences()
    came = [each for begin, end in pairwise(places) for each in sentences.feed(text[begin:end])]
    assert came + sentences.close() == split(text)
