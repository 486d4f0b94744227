"""Where speech begins, pauses and ends: by hand, for everything that can come, and with real speech in noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.voice.detect.activity import VoiceActivity
from appliance.core.voice.detect.endpoint import PRE_ROLL_SECONDS, START, TAIL_SECONDS, EndEvent, Endpointer, Noise
from appliance.core.voice.model import FRAME_SECONDS
from tests.voice.detect import speech

start, pause, resume, end, cut_off = EndEvent
Told = list[tuple[EndEvent, float]]


def run(endpointer: Endpointer, probabilities: list[float], at: float = 0.0) -> Told:
    """What it tells of frames without a gap, and when."""
    told: Told = []
    for number, probability in enumerate(probabilities):
        time = at + (number + 1) * FRAME_SECONDS
        event = endpointer.feed(probability, time)
        if event is not None:
            told.append((event, round(time, 3)))
    return told


def kinds(told: Told) -> list[EndEvent]:
    return [event for event, _ in told]


def test_an_utterance_begins_and_ends() -> None:
    endpointer = Endpointer(500, 20)
    told = run(endpointer, [0.0] * 10 + [0.9] * 20 + [0.0] * 20)
    assert kinds(told) == [start, pause, end]
    assert endpointer.speech_began == pytest.approx(10 * FRAME_SECONDS)
    assert endpointer.speech_ended == pytest.approx(30 * FRAME_SECONDS - TAIL_SECONDS)
    times = dict(told)
    assert times[start] == pytest.approx(12 * FRAME_SECONDS)
    assert 0.16 <= times[pause] - endpointer.speech_ended < 0.16 + FRAME_SECONDS
    assert 0.5 <= times[end] - endpointer.speech_ended < 0.5 + FRAME_SECONDS
    assert not endpointer.speaking


def test_a_click_is_no_speech() -> None:
    assert run(Endpointer(500, 20), ([0.0] * 5 + [1.0]) * 20) == []


def test_speech_goes_on_after_a_pause() -> None:
    endpointer = Endpointer(500, 20)
    told = run(endpointer, [1.0] * 10 + [0.0] * 8 + [1.0] * 10 + [0.0] * 30)
    assert kinds(told) == [start, pause, resume, pause, end]
    assert endpointer.speech_began == 0
    assert endpointer.speech_ended == pytest.approx(28 * FRAME_SECONDS - TAIL_SECONDS)


def test_a_click_in_a_pause_neither_resumes_nor_delays() -> None:
    quiet = run(Endpointer(500, 20), [1.0] * 10 + [0.0] * 30)
    clicks = run(Endpointer(500, 20), [1.0] * 10 + ([0.0] * 5 + [1.0]) * 2 + [0.0] * 20)
    assert clicks == quiet


def test_weak_sounds_within_speech_are_speech() -> None:
    """Between the threshold and what releases it, speech goes on, and does not begin."""
    assert kinds(run(Endpointer(500, 20), [1.0] * 5 + [0.4] * 40)) == [start]
    assert run(Endpointer(500, 20), [0.4] * 40) == []


def test_the_end_waits_for_what_just_begins() -> None:
    """A frame of speech when the silence is over: the next one tells whether it goes on."""
    frames = [1.0] * 10 + [0.0] * 13
    assert kinds(run(Endpointer(500, 20), [*frames, 0.0])) == [start, pause, end]
    assert kinds(run(Endpointer(500, 20), [*frames, 1.0])) == [start, pause]
    assert kinds(run(Endpointer(500, 20), [*frames, 1.0, 0.0])) == [start, pause, end]
    assert kinds(run(Endpointer(500, 20), [*frames, 1.0, 1.0])) == [start, pause, resume]


def test_a_short_end_comes_without_a_pause() -> None:
    assert kinds(run(Endpointer(100, 20), [1.0] * 10 + [0.0] * 10)) == [start, end]


def test_the_longest_is_cut_off_and_what_follows_is_the_next() -> None:
    endpointer = Endpointer(500, 2)
    told = run(endpointer, [1.0] * 100)
    assert kinds(told) == [start, cut_off, start]
    assert told[1][1] == pytest.approx(2.0, abs=FRAME_SECONDS)


def test_noise_that_nearly_is_speech_raises_the_threshold() -> None:
    endpointer = Endpointer(500, 20)
    run(endpointer, [0.4] * 30)
    assert endpointer.threshold == START, "a second of it is the least that tells"
    run(endpointer, [0.4] * 34)
    assert endpointer.threshold == pytest.approx(0.75)
    told = run(endpointer, [0.95] * 20 + [0.45] * 40, at=64 * FRAME_SECONDS)
    assert kinds(told) == [start, pause, end], "noise holds the utterance open"


def test_sound_before_a_gap_does_not_begin_what_comes_after() -> None:
    endpointer = Endpointer(500, 20)
    assert endpointer.feed(1.0, 10.0) is None
    assert endpointer.feed(1.0, 15.0) is None
    assert endpointer.feed(1.0, 15.032) is start
    assert endpointer.speech_began == pytest.approx(15.0 - FRAME_SECONDS)


def test_reset_drops_the_utterance_and_keeps_the_noise() -> None:
    endpointer = Endpointer(500, 20)
    run(endpointer, [0.3] * 64 + [1.0] * 10)
    before = endpointer.threshold
    assert endpointer.speaking
    endpointer.reset()
    assert not endpointer.speaking
    assert endpointer.threshold == before
    assert run(endpointer, [0.0] * 100, at=50) == []


def test_a_new_one_knows_the_noise_that_another_learnt() -> None:
    noise = Noise()
    run(Endpointer(500, 20, noise), [0.4] * 64)
    assert Endpointer(500, 20, noise).threshold == pytest.approx(0.75)
    assert Endpointer(500, 20).threshold == START


FOLLOWS = {
    None: {start},
    start: {pause, end, cut_off},
    pause: {resume, end, cut_off},
    resume: {pause, end, cut_off},
    end: {start},
    cut_off: {start},
}
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.7, 1.0]), st.integers(1, 30), st.sampled_from([0.0, 0.0, 0.0, 0.1, 3.0])),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(STEPS, st.sampled_from([100, 160, 500, 1500]), st.sampled_from([2.0, 5.0]))
def test_whatever_comes_the_order_and_the_times_hold(
    steps: list[tuple[float, int, float]], silence: int, longest: float
) -> None:
    endpointer, time, last, spoken = Endpointer(silence, longest), 100.0, None, 0.0
    for probability, count, gap in steps:
        time += gap
        for _ in range(count):
            time += FRAME_SECONDS
            event = endpointer.feed(probability, time)
            spoken = time if probability >= START else spoken
            if event is not None:
                assert event in FOLLOWS[last]
                last = event
            if endpointer.speaking or event in {end, cut_off}:
                assert endpointer.speech_began <= endpointer.speech_ended <= time
                assert time - endpointer.speech_began <= longest + gap + FRAME_SECONDS + 1e-6
            if event is end:
                assert time - endpointer.speech_ended >= silence / 1000 - 1e-6
                assert probability < endpointer.threshold
            if event is start:
                assert spoken == time


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_the_same_frames_give_the_same(steps: list[tuple[float, int, float]]) -> None:
    frames = [probability for probability, count, _ in steps for _ in range(count)]
    assert run(Endpointer(500, 20), frames) == run(Endpointer(500, 20), frames)


@pytest.mark.parametrize("voice", ["en-us", "slt", "awb", "kal16"])
@pytest.mark.parametrize("db", [60, 20, 10])
def test_true_speech_is_timed_truly(voice: str, db: int) -> None:
    """The times are those of the sound, in quiet and in noise; the beginning is within what is taken along."""
    wave = speech.said("what is the battery at", voice)
    sound = speech.pcm(speech.in_noise(np.concatenate([speech.silence(1), wave, speech.silence(1.2)]), db))
    activity, endpointer = VoiceActivity(), Endpointer(500, 20)
    told = run(endpointer, [activity.probability(frame.pcm) for frame in speech.frames(sound)])
    assert [event for event in kinds(told) if event not in {pause, resume}] == [start, end]
    assert -0.1 < endpointer.speech_began - 1 < PRE_ROLL_SECONDS
    assert abs(endpointer.speech_ended - (1 + len(wave) / 16000)) < 0.13
