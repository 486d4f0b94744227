"""Conditioning: the offset goes, all else stays; what the meters show is what the sound is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.core.voice.detect.conditioning import BANDS, FLOOR_DB, Conditioner, bands
from appliance.core.voice.model import RATE
from tests.voice.detect import speech


def fed(conditioner: Conditioner, sound: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(conditioner.feed(frame.pcm) for frame in speech.frames(sound)), "<i2").astype(float)


def sine(hertz: float, amplitude: float = 32767, seconds: float = 1.0) -> speech.Wave:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("offset", [-4000, 900])
def test_the_offset_goes_and_the_speech_stays(offset: int) -> None:
    wave = np.concatenate([speech.noise(2, 20), 0.4 * speech.said("what is the battery at")])
    conditioner = Conditioner()
    clean = fed(conditioner, speech.pcm(wave + offset))
    wanted = wave[: len(clean)]
    late = slice(RATE, None)
    assert abs(np.mean(clean[late])) < 15
    assert np.sqrt(np.mean((clean[late] - wanted[late]) ** 2)) < 0.02 * np.sqrt(np.mean(wanted[late] ** 2))
    assert conditioner.level().offset == pytest.approx(offset / 32768, abs=0.001)


def test_an_offset_that_drifts_is_followed() -> None:
    wave = speech.noise(6, 100) + np.linspace(0, 3000, 6 * RATE)
    assert abs(np.mean(fed(Conditioner(), speech.pcm(wave))[-RATE:])) < 600


def test_no_step_is_made_between_frames() -> None:
    """The offset goes along a ramp: a step every 32 ms would hum."""
    clean = fed(Conditioner(), speech.pcm(np.linspace(0, 8000, 4 * RATE)))
    assert np.max(np.abs(np.diff(clean))) <= 2


def test_muting_stays_silence_and_teaches_nothing() -> None:
    conditioner = Conditioner()
    fed(conditioner, speech.pcm(speech.noise(2, 50) + 2000))
    assert not np.any(fed(conditioner, bytes(2 * RATE)))
    again = fed(conditioner, speech.pcm(speech.noise(1, 50, seed=2) + 2000))
    assert abs(np.mean(again[:512])) < 60


def test_digital_silence_is_told_after_five_seconds_and_noise_ends_it() -> None:
    conditioner = Conditioner()
    fed(conditioner, bytes(2 * RATE * 4))
    assert conditioner.level().problem == ""
    fed(conditioner, bytes(2 * RATE * 2))
    told = conditioner.level()
    assert (told.problem, told.rms_db, told.peak_db, told.bands) == ("silent", FLOOR_DB, FLOOR_DB, (FLOOR_DB,) * BANDS)
    fed(conditioner, speech.pcm(speech.noise(0.1, 3)))
    assert conditioner.level().problem == ""


def test_clipping_is_counted_over_the_last_second() -> None:
    conditioner = Conditioner()
    fed(conditioner, speech.pcm(sine(440, 40000)))
    told = conditioner.level()
    assert told.problem == "clipped"
    assert told.clipped == pytest.approx(0.39, abs=0.02)  # |sin| is above 32767 / 40000 for 1 - 2/pi * asin(0.819) of the time
    assert told.peak_db == pytest.approx(0.0, abs=0.01)
    fed(conditioner, speech.pcm(sine(440, 3000, 1.2)))
    assert conditioner.level().clipped == 0
    assert conditioner.level().problem == ""


def test_an_offset_is_told() -> None:
    conditioner = Conditioner()
    fed(conditioner, speech.pcm(speech.noise(1, 50) + 2000))
    assert conditioner.level().problem == "offset"


def test_levels_are_decibels_of_full_scale() -> None:
    conditioner = Conditioner(lambda: 1234.5)
    fed(conditioner, speech.pcm(sine(440, 32767 / 10)))
    told = conditioner.level(0.7, 90)
    assert told.rms_db == pytest.approx(-23.01, abs=0.1)
    assert told.peak_db == pytest.approx(-20, abs=0.1)
    assert (told.time, told.speech, told.direction) == (1234.5, 0.7, 90)


@pytest.mark.parametrize("band", [0, 5, 11, 15])
def test_a_tone_is_in_its_band(band: int) -> None:
    hertz = 60 * (8000 / 60) ** ((band + 0.5) / 16)
    told = bands(sine(hertz, 0.1, 2048 / RATE))
    assert int(np.argmax(told)) == band
    assert told[band] == pytest.approx(-23.0, abs=1.5)


def test_all_bands_together_are_the_whole() -> None:
    wave = speech.noise(2048 / RATE, 0.1)
    told = bands(wave)
    assert 10 * np.log10(sum(10 ** (each / 10) for each in told)) == pytest.approx(-20, abs=0.8)


def test_before_any_sound_there_is_a_floor() -> None:
    told = Conditioner().level()
    assert (told.rms_db, told.peak_db, told.clipped, told.problem) == (FLOOR_DB, FLOOR_DB, 0.0, "")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=600).map(lambda raw: raw[: len(raw) // 2 * 2]), st.just(bytes(1024))), max_size=12)
)
def test_whatever_comes_as_much_goes(parts: list[bytes]) -> None:
    conditioner = Conditioner()
    for part in parts:
        assert len(conditioner.feed(part)) == len(part)
    told = conditioner.level()
    assert FLOOR_DB <= told.rms_db <= told.peak_db + 0.01 <= 0.02
    assert 0 <= told.clipped <= 1
    assert len(told.bands) == BANDS
