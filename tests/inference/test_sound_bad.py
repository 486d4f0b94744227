"""Recordings as the world has them: streamed, odd, huge when unpacked, or something else that a library would follow."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

from appliance.core.inference import sound
from appliance.core.inference.manifest import Manifest, Softmax, SoundInput, Stateful
from appliance.core.inference.model import Sound
from appliance.core.inference.tasks import audio, task_for
from appliance.errors import ModelError, SoundError

RATE = 16000


def wav(width: int = 2, rate: int = 8000, data: bytes = b"\0\1" * 800, size: int | None = None) -> bytes:
    """Whatever its header says."""
    told = len(data) if size is None else size
    head = struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * width & 0xFFFFFFFF, width, 8 * width)
    return (
        b"RIFF" + struct.pack("<I", min(36 + told, 0xFFFFFFFF)) + b"WAVEfmt " + head + b"data" + struct.pack("<I", told) + data
    )


def manifest(decode: Any = None, **wanted: Any) -> Manifest:
    told = {"rate": RATE, "window": RATE, "hop": RATE, **wanted}
    return Manifest("m", "1", "audio", "MIT", ["a"], [], sound=SoundInput("x", **told), decode=decode or Softmax("sigmoid"))


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_recording_whose_writer_did_not_know_its_length_is_read(size: int) -> None:
    assert sound.decode(wav(size=size), "x.wav").samples.shape == (800, 1)


@pytest.mark.parametrize("width", [5, 6])
def test_samples_of_a_width_that_nobody_knows_are_refused(width: int) -> None:
    with pytest.raises(SoundError, match=r"x\.wav is coded"):
        sound.decode(wav(width, data=b"\0\1\2" * 800), "x.wav")


def test_samples_of_eight_bytes_are_read() -> None:
    assert sound.decode(wav(8, data=struct.pack("<q", 1 << 62) * 100), "x.wav").samples == pytest.approx(np.full((100, 1), 0.5))


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    target = io.BytesIO()
    with av.open(target, "w", format="flac") as file:
        stream = file.add_stream("flac", rate=96000, layout="7.1")
        for second in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 96000), np.int16), format="s16", layout="7.1")
            frame.sample_rate, frame.pts = 96000, second * 96000
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    data = target.getvalue()
    assert len(data) < 20_000
    monkeypatch.setattr(sound, "MOST_VALUES", 1_000_000)
    tracemalloc.start()
    with pytest.raises(SoundError, match="million samples in 8 channels"):
        sound.decode(data, "silence.flac")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000, "4 bytes each, and what the library holds; all of it would be 25 MB"


SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 45454 RTP/AVP 0\n"
CONCAT = b"ffconcat version 1.0\nfile 'other.wav'\n"


@pytest.mark.parametrize("data", [SDP, CONCAT])
def test_bytes_do_not_have_the_appliance_open_ports_or_files(data: bytes) -> None:
    with pytest.raises(SoundError, match="not a recording") as raised:
        sound.decode(data, "x.mp3")
    assert "timed out" not in raised.value.message, "nobody waited for packets"


def test_windows_are_counted_before_they_are_cut() -> None:
    samples = Sound(np.zeros(60 * RATE, np.float32), RATE, "talk.wav")
    tracemalloc.start()
    for told in (manifest(hop=10), manifest(Stateful(), hop=10, window=RATE)):
        with pytest.raises(SoundError, match=r"talk\.wav makes \d+ windows"):
            task_for(told).prepare(samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_long_recordings_features_take_little_more_than_themselves() -> None:
    told = manifest(features="log-mel")
    samples = Sound(np.random.default_rng(0).normal(0, 0.1, 600 * RATE).astype(np.float32), RATE, "x")
    task = task_for(told)
    tracemalloc.start()
    batches = task.prepare(samples).batches
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(batches) == 600
    assert peak < 3 * samples.samples.nbytes + 60_000_000
    one = audio.log_mel(samples.samples[None, 599 * RATE :], told.sound, audio.mel_bands(told.sound))  # type: ignore[arg-type]
    np.testing.assert_array_equal(batches[-1]["x"][0], one[0])


def test_a_rate_that_makes_it_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "MOST_VALUES", 100_000)
    with pytest.raises(SoundError, match="too long at 16000 Hz"):
        task_for(manifest()).prepare(Sound(np.zeros(1000, np.float32), 10, "slow"))


@pytest.mark.parametrize(
    ("decode", "wanted", "told"),
    [
        (Stateful(state_in=("a", "b"), state_out=("c",)), {}, "state_out for each"),
        (Stateful(state_shape=(4096, 4096, 4096)), {}, "state of more than"),
        (Stateful(context=1000), {"window": 512, "hop": 512}, "context"),
        (Stateful(), {"window": 512, "hop": 600}, "window"),
        (None, {"features": "log-mel", "fft_window": 600}, "fft_window"),
        (None, {"features": "log-mel", "window": 300}, "fft_window"),
    ],
)
def test_windows_that_do_not_go_together_are_the_manifests_fault(decode: Any, wanted: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        task_for(manifest(decode, **wanted))


def test_what_is_no_recording_is_told_in_plain_words() -> None:
    with pytest.raises(SoundError) as caught:
        sound.decode(bytes(range(256)) * 200, "noise.bin")
    assert caught.value.message == "noise.bin is not a recording, or is damaged."
