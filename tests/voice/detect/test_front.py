"""All that listens, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.core.voice.detect.front import Front
from appliance.core.voice.model import Frame
from tests.voice.detect import speech


@pytest.fixture(scope="module")
def shared() -> Front:
    return Front(("okay nabu", "hey spark"), wall=lambda: 5.0)


@pytest.fixture
def front(shared: Front) -> Front:
    shared.hear_all(speech.frames(speech.pcm(speech.noise(2, 5))))
    shared.reset()
    return shared


def test_a_frame_is_heard_in_one_call(front: Front) -> None:
    """Speech with an offset: the frames come without it, in their order, with their speech and the wake word."""
    wave = np.concatenate([speech.silence(1), speech.said("okay nabu."), speech.silence(1)])
    frames = list(speech.frames(speech.pcm(wave + speech.noise(len(wave) / 16000, 5)[: len(wave)] + 500)))
    heard = front.hear_all(frames)
    assert [each.time for each in heard] == [frame.time for frame in frames]
    assert [hit.phrase for each in heard for hit in each.hits] == ["okay nabu"]
    assert max(each.speech for each in heard[:25]) < 0.5 < max(each.speech for each in heard)
    assert abs(np.mean(np.frombuffer(heard[-1].pcm, "<i2"))) < 100
    assert front.uncovered == ("hey spark",)
    level = front.level(270)
    assert (level.direction, level.speech, level.time) == (270, heard[-1].speech, 5.0)


def test_digital_silence_costs_the_models_nothing(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    front.hear_all(speech.frames(bytes(40 * 1024)))
    monkeypatch.setattr("appliance.core.voice.detect.activity.VoiceActivity.probability", None)
    monkeypatch.setattr("appliance.core.voice.detect.wake.WakeModels.feed", None)
    assert front.hear(Frame(bytes(1024), 1.0)).speech == 0.0
    with pytest.raises(TypeError):
        front.hear(Frame(speech.pcm(speech.noise(0.032, 50)), 1.1))


def test_after_a_gap_it_starts_anew(front: Front) -> None:
    """What was half said before a gap is not made a word by what comes after."""
    word = speech.said("okay nabu.")
    half = len(word) // 2
    first, second = (list(speech.frames(speech.pcm(part))) for part in (word[:half], word[half:]))
    lost = [Frame(second[0].pcm, second[0].time, 16000), *second[1:]]
    tail = list(speech.frames(speech.pcm(speech.noise(1, 5))))
    assert [hit for each in front.hear_all([*first, *lost, *tail]) for hit in each.hits] == []
    assert [hit.phrase for each in front.hear_all([*first, *second, *tail]) for hit in each.hits] == ["okay nabu"]
