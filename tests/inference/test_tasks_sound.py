"""Tasks of sound, and of sensors, against formulas and signals whose answer is known."""

from __future__ import annotations

import io
import math
import wave
from typing import Any

import numpy as np
import pytest

from appliance.core.inference import manifest as manifests
from appliance.core.inference import sound
from appliance.core.inference.manifest import Manifest, SoundInput
from appliance.core.inference.model import Findings, Readings, Sound
from appliance.core.inference.tasks import task_for
from appliance.core.inference.tasks.activity import AT_ONCE, carried
from appliance.core.inference.tasks.audio import log_mel, mel_bands, mono, windows
from appliance.core.inference.tasks.statistics import WindowStatistics
from appliance.errors import ModelError, SoundError
from tests.inference import references


def tone(hertz: float, rate: int, seconds: float, height: float = 0.5) -> np.ndarray:
    return (height * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def manifest(wanted: SoundInput, decode: Any, labels: list[str]) -> Manifest:
    return Manifest("ears", "1", "audio", "MIT", labels, [], sound=wanted, decode=decode)


@pytest.mark.parametrize(("before", "after"), [(8000, 16000), (44100, 16000), (48000, 16000), (16000, 22050)])
def test_a_tone_keeps_its_height_and_its_place_at_another_rate(before: int, after: int) -> None:
    samples = mono(Sound(tone(440, before, 1.0), before, "x"), after, "ears")
    assert samples.dtype == np.float32
    assert abs(len(samples) - after) <= 1
    inside = slice(after // 10, -after // 10)
    np.testing.assert_allclose(samples[inside], tone(440, after, 1.0)[: len(samples)][inside], atol=2e-3)


def test_what_the_new_rate_cannot_hold_is_gone() -> None:
    samples = mono(Sound(tone(7000, 48000, 1.0), 48000, "x"), 8000, "ears")
    assert np.abs(samples[800:-800]).max() < 1e-3


def test_channels_become_one() -> None:
    both = np.stack([tone(100, 8000, 0.1), -tone(100, 8000, 0.1)], axis=1)
    assert np.abs(mono(Sound(both, 8000, "x"), 8000, "ears")).max() < 1e-6


@pytest.mark.parametrize(("length", "count"), [(1, 1), (100, 1), (101, 2), (150, 2), (151, 3)])
def test_the_last_window_is_filled_with_silence(length: int, count: int) -> None:
    samples = np.arange(1, length + 1, dtype=np.float32)
    cut = windows(samples, 100, 50, "x")
    assert cut.shape == (count, 100)
    for index in range(count):
        expected = np.zeros(100, np.float32)
        part = samples[index * 50 : index * 50 + 100]
        expected[: len(part)] = part
        np.testing.assert_array_equal(cut[index], expected)


@pytest.mark.parametrize(("mels", "low", "high", "rate"), [(64, 125.0, 7500.0, 16000), (40, 20.0, 4000.0, 8000)])
def test_log_mel_is_the_definition(mels: int, low: float, high: float, rate: int) -> None:
    samples = (tone(440, rate, 0.2) + np.random.default_rng(1).normal(0, 0.1, rate // 5)).astype(np.float32)
    wanted = SoundInput("x", rate, len(samples), len(samples), "log-mel", mels, 512, 160, low=low, high=high)
    features = log_mel(samples, wanted, mel_bands(wanted))
    expected = references.mel_features(samples, rate, 400, 512, 160, mels, low, high)
    assert features.shape == expected.shape == (1 + (len(samples) - 400) // 160, mels)
    np.testing.assert_allclose(features, expected, atol=1e-3)


def test_log_mel_windows_have_the_shape_of_the_manifest() -> None:
    wanted = SoundInput("x", 16000, 15600, 7800, "log-mel", shape=(1, 1, 96, 64))
    prepared = task_for(manifest(wanted, manifests.Softmax(), ["a"])).prepare(Sound(tone(440, 16000, 2), 16000, "x"))
    assert [batch["x"].shape for batch in prepared.batches] == [(1, 1, 96, 64)] * 4
    wrong = SoundInput("x", 16000, 15600, 7800, "log-mel", shape=(1, 1, 95, 64))
    with pytest.raises(ModelError, match="shape"):
        task_for(manifest(wrong, manifests.Softmax(), ["a"])).prepare(Sound(tone(440, 16000, 2), 16000, "x"))


def test_sounds_are_told_with_their_times() -> None:
    told = manifest(SoundInput("x", 8000, 8000, 4000), manifests.Softmax("none"), ["bark", "bell"])
    task = task_for(told)
    prepared = task.prepare(Sound(tone(440, 8000, 2.75), 8000, "x"))
    assert len(prepared.batches) == 5
    answers = [[np.array([row], np.float32)] for row in ([0.9, 0], [0.6, 0.1], [0.1, 0.7], [0.8, 0.2], [0.7, 0.1])]
    found = task.finish(answers, ("y",), prepared, 0.5)
    assert [(each.label, each.begin, each.end, each.score) for each in found.segments] == [
        ("bark", 0.0, 1.5, 0.9), ("bell", 1.0, 2.0, 0.7), ("bark", 1.5, 2.75, 0.8),
    ]  # fmt: skip
    assert [(each.label, each.score) for each in found.classes] == [("bark", pytest.approx(0.62))]
    with pytest.raises(ModelError, match="2 labels"):
        task.finish([[np.zeros((1, 3))]] * 5, ("y",), prepared, 0.5)
    with pytest.raises(ModelError, match="no numbers"):
        task.finish([[np.full((1, 2), np.nan)]] * 5, ("y",), prepared, 0.5)


def silero(**more: Any) -> Manifest:
    head = manifests.Stateful(("h", "c"), ("hn", "cn"), context=64, **more)
    return manifest(SoundInput("input", 16000, 512, 512), head, ["speech"])


def test_each_window_has_the_samples_before_it_in_front() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 512 * 3 + 100).astype(np.float32)
    prepared = task_for(silero()).prepare(Sound(samples, 16000, "x"))
    (batch,) = prepared.batches
    padded = np.concatenate([np.zeros(64, np.float32), samples, np.zeros(412, np.float32)])
    expected = np.stack([padded[start : start + 576] for start in range(0, 2048, 512)])
    np.testing.assert_array_equal(batch["input"], expected)
    assert batch["h"].shape == batch["c"].shape == (1, 1, 128)
    assert not batch["h"].any()


def test_a_long_recording_hands_its_state_on() -> None:
    prepared = task_for(silero()).prepare(Sound(np.zeros(512 * (AT_ONCE + 5), np.float32), 16000, "x"))
    assert [len(batch["input"]) for batch in prepared.batches] == [AT_ONCE, 5]
    outputs = [np.zeros(AT_ONCE), np.full((1, 1, 128), 2.0), np.full((1, 1, 128), 3.0)]
    following = carried(prepared.batches[1], prepared, outputs, ("speech_probs", "hn", "cn"))
    assert (following["h"].max(), following["c"].max(), len(following["input"])) == (2.0, 3.0, 5)


def test_speech_begins_and_ends_as_sileros_own_program_says() -> None:
    rng, task, told = np.random.default_rng(5), task_for(silero()), 0
    for _ in range(100):
        count = int(rng.integers(1, 120))
        values = np.clip(np.convolve(rng.normal(0.5, 0.9, count + 12), np.ones(8) / 8, "same")[6:-6], 0, 1)
        seconds = (count * 512 - int(rng.integers(0, 511))) / 16000
        prepared = task.prepare(Sound(np.zeros(round(seconds * 16000), np.float32), 16000, "x"))
        found = task.finish([[np.zeros((1, 1, 128)), values, np.zeros((1, 1, 128))]], ("hn", "p", "cn"), prepared, 0.5)
        expected = references.speech(values.tolist(), 0.032, seconds, 0.5)
        np.testing.assert_allclose([(each.begin, each.end) for each in found.segments], expected or np.empty(0), atol=1e-3)
        told += len(expected)
    assert told > 50


def test_a_recorder_that_gives_another_number_of_windows_is_told() -> None:
    task = task_for(silero())
    prepared = task.prepare(Sound(np.zeros(2048, np.float32), 16000, "x"))
    with pytest.raises(ModelError, match="4 windows"):
        task.finish([[np.zeros(3)]], ("p",), prepared, 0.5)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.zeros(0), 8000),
        (np.full(9, np.nan), 8000),
        (np.full(9, 32000.0), 8000),
        (np.zeros(9), 0),
        (np.zeros((2, 2, 2)), 8000),
    ],
)
def test_what_is_no_recording_is_refused(samples: np.ndarray, rate: int) -> None:
    for sample in (Sound(samples, rate, "x"), None, Readings(np.zeros(2), np.zeros(2), "x")):
        with pytest.raises(SoundError):
            task_for(silero()).prepare(sample)


def encoded(samples: np.ndarray, width: int, rate: int = 8000) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        half = 2 ** (8 * width - 1)
        whole = np.clip(np.round(samples * half), -half, half - 1).astype(np.int64) + (half if width == 1 else 0)
        file.writeframes(b"".join(int(value).to_bytes(width, "little", signed=width > 1) for value in whole.reshape(-1)))
    return target.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_of_every_width(width: int) -> None:
    samples = np.stack([tone(200, 8000, 0.05), tone(300, 8000, 0.05)], axis=1)
    told = sound.decode(encoded(samples, width), "x.wav")
    assert (told.rate, told.samples.shape, told.samples.dtype) == (8000, samples.shape, np.float32)
    np.testing.assert_allclose(told.samples, samples, atol=2.0 ** -(8 * width - 2))


@pytest.mark.parametrize(("form", "codec"), [("flac", "flac"), ("adts", "aac"), ("mp3", "libmp3lame"), ("wav", "pcm_f32le")])
def test_other_forms_of_recordings(form: str, codec: str) -> None:
    import av

    target = io.BytesIO()
    samples = tone(440, 16000, 1.0)
    with av.open(target, "w", format=form) as file:
        stream = file.add_stream(codec, rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        resampled = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=16000).resample(frame)
        for part in resampled:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    told = sound.decode(target.getvalue(), f"x.{form}")
    assert told.rate == 16000
    assert told.samples.shape[1] == 1
    assert len(told.samples) / 16000 == pytest.approx(1.0, abs=0.15)
    lines = np.abs(np.fft.rfft(told.samples[:16000, 0]))
    assert lines.argmax() * 16000 / len(told.samples[:16000, 0]) == pytest.approx(440, abs=2)
    assert np.abs(told.samples[4000:12000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "data", [b"", b"some words " * 40, b"RIFF" + b"\0" * 60, encoded(np.zeros((0, 1)), 2), encoded(np.zeros((9, 1)), 2)[:30]]
)
def test_files_that_are_no_recordings(data: bytes) -> None:
    with pytest.raises(SoundError, match="talk") as caught:
        sound.decode(data, "talk.wav")
    assert caught.value.next_step


def test_a_recording_cut_off_keeps_what_is_there() -> None:
    whole = encoded(tone(440, 8000, 1.0)[:, None], 2)
    told = sound.decode(whole[: len(whole) // 2 + 1], "x.wav")
    np.testing.assert_allclose(told.samples[:, 0], tone(440, 8000, 1.0)[: len(told.samples)], atol=1e-4)
    assert len(told.samples) > 3900


def test_a_recording_that_is_too_long_is_refused() -> None:
    with pytest.raises(SoundError, match=r"longer than 0\.5 s"):
        sound.decode(encoded(tone(440, 8000, 1.0)[:, None], 2), "x.wav", 0.5)


def statistics(times: np.ndarray, values: np.ndarray, seconds: float = 0.0) -> dict[str, float]:
    task = WindowStatistics(seconds)
    prepared = task.prepare(Readings(times, values, "x"))
    assert prepared.batches == ()
    return task.finish([], (), prepared, 0.5).statistics


def test_statistics_of_a_swinging_sensor() -> None:
    times = np.arange(0, 20, 0.05) + 1.7e9
    values = 5 + 2 * np.sin(2 * np.pi * 1.5 * times) + 0.3 * (times - times[0])
    told = statistics(times, values)
    swing = statistics(times, values - 0.3 * (times - times[0]))
    assert told["count"] == 400
    assert told["mean"] == pytest.approx(values.mean())
    assert told["std"] == pytest.approx(math.sqrt(sum((v - values.mean()) ** 2 for v in values) / 400))
    assert (told["min"], told["max"], told["range"]) == (values.min(), values.max(), pytest.approx(np.ptp(values)))
    assert told["median"] == pytest.approx(sorted(values)[199] / 2 + sorted(values)[200] / 2)
    assert told["rms"] == pytest.approx(math.sqrt(sum(v * v for v in values) / 400))
    assert told["slope"] == pytest.approx(np.polyfit(times - times[0], values, 1)[0], rel=1e-6)
    assert swing["zero_crossings"] == pytest.approx(60, abs=1)
    assert swing["crossings_hz"] == pytest.approx(3, abs=0.1)
    assert swing["dominant_hz"] == pytest.approx(1.5, abs=0.05)
    assert swing["dominant_amplitude"] == pytest.approx(2, rel=0.05)


def test_only_the_newest_window_counts_and_a_clock_set_back_harms_nothing() -> None:
    times = np.arange(100.0)
    assert statistics(times, times, 10)["mean"] == pytest.approx(94.5)
    shuffled = np.random.default_rng(0).permutation(100)
    assert statistics(times[shuffled], times[shuffled], 10)["mean"] == pytest.approx(94.5)


def test_what_readings_do_not_give_is_left_out() -> None:
    alone = statistics(np.array([5.0]), np.array([3.0]))
    assert alone["mean"] == 3.0
    assert not {"slope", "zero_crossings", "dominant_hz"} & set(alone)
    flat = statistics(np.arange(50.0), np.full(50, 7.0))
    assert flat["zero_crossings"] == flat["slope"] == 0
    assert "dominant_hz" not in flat
    unsteady = statistics(np.cumsum(np.tile([0.1, 1.0], 30)), np.random.default_rng(1).normal(0, 1, 60))
    assert "dominant_hz" not in unsteady


@pytest.mark.parametrize(
    ("times", "values"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, math.nan]), ([math.inf, 1.0], [1.0, 1.0])]
)
def test_readings_that_are_none(times: list[float], values: list[float]) -> None:
    with pytest.raises(ModelError):
        WindowStatistics().prepare(Readings(np.array(times), np.array(values), "x"))
    with pytest.raises(ModelError):
        WindowStatistics().prepare(None)


def test_an_embedding_of_a_recording_is_the_mean_of_its_windows() -> None:
    task = task_for(manifest(SoundInput("x", 8000, 8000, 8000), manifests.Vector(), []))
    prepared = task.prepare(Sound(tone(440, 8000, 1.5), 8000, "x"))
    found = task.finish([[np.array([[2.0, 0.0]])], [np.array([[0.0, 2.0]])]], ("y",), prepared, 0)
    assert found == Findings(embedding=pytest.approx((math.sqrt(0.5), math.sqrt(0.5))))
