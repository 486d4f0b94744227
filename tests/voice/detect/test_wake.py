"""Wake words: the shipped models hear real voices once, and broken models of the operator's are told and harm nobody."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.voice.detect import wake
from appliance.core.voice.detect.wake import WakeModels, threshold
from appliance.core.voice.model import Hit
from tests.voice.detect import speech

ALL = ("okay nabu", "hey jarvis", "hey mycroft", "alexa")


@pytest.fixture(scope="module")
def shared() -> WakeModels:
    return WakeModels(ALL, wall=lambda: 77.0)


@pytest.fixture
def models(shared: WakeModels) -> WakeModels:
    shared.feed(speech.pcm(speech.noise(2, 5)))
    shared.reset()
    return shared


def hear(models: WakeModels, *waves: speech.Wave) -> list[Hit]:
    """All hits of what is said in a quiet room, as frames come."""
    sound = speech.pcm(np.concatenate(waves) + speech.noise(sum(map(len, waves)) / 16000, 5)[: sum(map(len, waves))])
    return [hit for frame in speech.frames(sound) for hit in models.feed(frame.pcm)]


@pytest.mark.parametrize(
    ("phrase", "voice"),
    [("okay nabu", "en-us"), ("okay nabu", "slt"), ("hey jarvis", "awb"), ("hey jarvis", "rms"), ("hey mycroft", "en-gb"),
     ("alexa", "slt")],
)  # fmt: skip
def test_a_word_is_heard_once(models: WakeModels, phrase: str, voice: str) -> None:
    times = {status.phrase: status.times for status in models.statuses()}
    hits = hear(models, speech.silence(1), speech.said(phrase + ".", voice), speech.silence(1.5))
    assert [hit.phrase for hit in hits] == [phrase]
    assert hits[0].heard_by == phrase.replace(" ", "_")
    status = next(status for status in models.statuses() if status.phrase == phrase)
    assert status.best is not None
    assert status.score is not None
    assert status.threshold <= hits[0].score <= status.best <= 1
    assert status.score < status.threshold, "it has been said, and is over"
    assert (status.times, status.last, status.problem) == (times[phrase] + 1, 77.0, "")


def test_a_word_in_noise_is_heard(models: WakeModels) -> None:
    wave = np.concatenate([speech.silence(1), speech.said("okay nabu.", "rms"), speech.silence(1)])
    assert [hit.phrase for hit in hear(models, speech.in_noise(wave, 10))] == ["okay nabu"]


def test_two_words_one_after_the_other_are_two_hits(models: WakeModels) -> None:
    word, rest = speech.said("okay nabu."), speech.silence(2)
    assert [hit.phrase for hit in hear(models, rest, word, rest, word, rest)] == ["okay nabu"] * 2


def test_other_speech_noise_and_music_wake_nobody(models: WakeModels) -> None:
    text = (
        "The gateway sends each request to the first backend that is well. Alerts are grouped, and one message tells of them."
    )
    said = [speech.said(text, voice) for voice in ("en-us", "slt", "rms")]
    assert hear(models, *said, speech.noise(4, 3000), speech.chord(4)) == []


def test_phrases_that_no_model_knows_are_left_to_others() -> None:
    models = WakeModels(("Hey Spark", "ok Nabu", "hey prime"))
    assert models.uncovered == ("hey spark", "hey prime")
    assert [status.phrase for status in models.statuses()] == ["okay nabu"]


def test_without_a_phrase_that_a_model_knows_no_library_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymicro_wakeword", None)
    models = WakeModels(("hey spark",))
    assert (models.feed(bytes(1024)), models.statuses(), models.uncovered) == ((), (), ("hey spark",))


def test_without_the_library_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymicro_wakeword", None)
    models = WakeModels(("okay nabu",))
    assert models.uncovered == ("okay nabu",)
    assert "Next: pip install -r requirements/run.txt" in models.statuses()[0].problem


def test_sensitivity_moves_the_threshold() -> None:
    for cutoff in (0.3, 0.5, 0.85, 0.97, 0.995):
        moved = [threshold(cutoff, step / 10) for step in range(11)]
        assert moved == sorted(moved, reverse=True)
        assert moved[5] == pytest.approx(cutoff)
        assert 0 < moved[10] <= cutoff <= moved[0] < 1
    assert threshold(0.97, 1) == pytest.approx(0.617, abs=0.001)


def test_a_higher_sensitivity_hears_more() -> None:
    said = (speech.silence(1), speech.said("hey jarvis.", "slt"), speech.silence(1))
    scores = []
    for sensitivity in (0.0, 1.0):
        models = WakeModels(("hey jarvis",), sensitivity=sensitivity)
        hits = hear(models, *said)
        assert len(hits) == 1
        scores.append(hits[0].score)
    assert scores[1] < scores[0], "the more sensitive one woke sooner"


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., str]:
    """Makes a model of the operator's: that of "okay nabu" under another name, with a manifest of its own."""

    def make(name: str = "own", micro: dict[str, Any] | None = None, **more: Any) -> str:
        shutil.copy(wake.shipped("okay nabu").with_suffix(".tflite"), tmp_path / f"{name}.tflite")
        told = json.loads(wake.shipped("okay nabu").read_text())
        told |= {"wake_word": "Hey Spark", "model": f"{name}.tflite", **more}
        told["micro"] |= micro or {}
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
        return str(tmp_path / f"{name}.json")

    return make


def test_an_own_model_hears_its_phrase(own: Callable[..., str]) -> None:
    models = WakeModels(("hey spark", "okay nabu"), [own()])
    assert models.uncovered == ()
    sound = np.concatenate([speech.silence(1), speech.said("okay nabu."), speech.silence(1)])
    hits = models.feed(speech.pcm(sound + speech.noise(len(sound) / 16000, 5)[: len(sound)]))
    assert sorted(hit.phrase for hit in hits) == ["hey spark", "okay nabu"]


def test_an_own_model_is_tried_anew_only_where_it_has_changed(
    own: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[object] = []
    run = wake.subprocess.run
    monkeypatch.setattr(wake.subprocess, "run", lambda *given, **more: (ran.append(given), run(*given, **more))[1])
    monkeypatch.chdir(tmp_path)  # from where the package cannot be seen
    path = own("once")
    assert not [each.problem for _ in range(2) for each in WakeModels((), [path]).statuses() if each.problem]
    assert len(ran) == 1
    (tmp_path / "once.tflite").write_bytes(b"damaged")
    assert "damaged" in WakeModels((), [path]).statuses()[0].problem
    assert len(ran) == 2


def test_two_at_once_come_by_their_score(own: Callable[..., str]) -> None:
    """The same model with a shorter window wakes at another score: both are told, the higher first."""
    models = WakeModels(
        (), [own("a", {"sliding_window_size": 1}, wake_word="one"), own("b", {"probability_cutoff": 0.6}, wake_word="two")]
    )
    sound = np.concatenate([speech.silence(1), speech.said("okay nabu."), speech.silence(1)])
    hits = models.feed(speech.pcm(sound))
    assert {hit.phrase for hit in hits} == {"one", "two"}
    assert hits[0].score > hits[1].score


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (None, "is not there. Next: see voice.wake_models"),
        (b"{", "is no manifest of microWakeWord"),
        (b"[1]", "is no manifest of microWakeWord"),
        (b'{"type": "micro", "wake_word": "x", "model": "x.tflite"}', "missing required field `micro`"),
    ],
    ids=["missing", "cut-off", "a-list", "no-micro"],
)
def test_a_manifest_that_is_none_is_told(tmp_path: Path, manifest: bytes | None, told: str) -> None:
    path = tmp_path / "hey_spark.json"
    if manifest is not None:
        path.write_bytes(manifest)
    models = WakeModels(("hey spark",), [str(path)])
    assert models.uncovered == ("hey spark",)
    (status,) = models.statuses()
    assert (status.phrase, status.heard_by) == ("hey spark", "hey_spark.json")
    assert told in status.problem
    assert models.feed(bytes(1024)) == ()


@pytest.mark.parametrize(
    ("micro", "more", "told"),
    [
        ({"feature_step_size": 20}, {}, "is for another kind of model"),
        ({}, {"version": 1}, "is for another kind of model"),
        ({"probability_cutoff": 1.5}, {}, "its wake word, cutoff or window"),
        ({"sliding_window_size": 0}, {}, "its wake word, cutoff or window"),
        ({}, {"wake_word": "!"}, "its wake word, cutoff or window"),
        ({}, {"model": "elsewhere.tflite"}, "the model elsewhere.tflite is not beside"),
    ],
    ids=["step", "version", "cutoff", "window", "word", "model"],
)
def test_a_manifest_that_does_not_fit_is_told(
    own: Callable[..., str], micro: dict[str, Any], more: dict[str, Any], told: str
) -> None:
    assert told in WakeModels((), [own(micro=micro, **more)]).statuses()[0].problem


@pytest.mark.parametrize("damage", ["text", "empty", "half", "zeroed"])
def test_a_damaged_model_ends_a_process_of_its_own_only(own: Callable[..., str], damage: str) -> None:
    path = Path(own()).with_suffix(".tflite")
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {"text": b"no model", "empty": b"", "half": whole[:middle], "zeroed": whole[:64] + bytes(len(whole) - 64)}
    path.write_bytes(damaged[damage])
    models = WakeModels(("hey spark", "alexa"), [str(path.with_suffix(".json"))])
    assert models.uncovered == ("hey spark",)
    alexa, broken = models.statuses()
    assert (alexa.phrase, alexa.problem) == ("alexa", "")
    assert "is damaged or of another kind" in broken.problem
