"""Recordings as tensors: one channel, the model's rate, windows, and log-mel features where it takes those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.core.findings import Segment
from appliance.core.inference.manifest import Manifest, Softmax, SoundInput
from appliance.core.inference.model import Findings, Prepared, Sample, Sound
from appliance.core.inference.tasks.classes import best, probabilities, unit
from appliance.core.inference.tasks.outputs import Array, arrays, count
from appliance.errors import ModelError, SoundError

LOUDEST = 8.0
"""A sample beyond this is no sample of -1…1."""
MOST_WINDOWS = 4000
"""Runs of one recording."""
MOST_SEGMENTS = 1000
"""Segments reported of one recording, the surest; a model of hundreds of labels has far more at a low threshold."""
MOST_VALUES = 64_000_000
"""Samples of all its windows together, 256 MB; where windows overlap they are far more than the recording's."""
AT_ONCE = 32
"""Windows whose spectra are worked out together: each takes a hundred times its memory."""


@dataclass(frozen=True)
class Stretch:
    """What is needed to read the outputs of a recording.

    Attributes:
        seconds: Its length.
        windows: How many.
    """

    seconds: float
    windows: int


def mono(sound: Sample, rate: int, name: str) -> Array:
    """A recording's mean channel at a rate.

    Raises:
        SoundError: It is no recording, is empty, or holds what is no sample.
    """
    if not isinstance(sound, Sound):
        raise SoundError(f"{name} listens to recordings, and this is none.", "give a recording.")
    samples = np.asarray(sound.samples, np.float32)
    if samples.ndim == 2:
        samples = samples.mean(axis=1, dtype=np.float32)
    if samples.ndim != 1 or not samples.size or sound.rate < 1:
        raise SoundError(f"{sound.source} has no samples ({samples.shape} at {sound.rate} Hz).", "give a recording.")
    if not np.isfinite(samples).all() or np.abs(samples).max() > LOUDEST:
        raise SoundError(f"{sound.source} has samples far outside of -1…1.", "scale them, or take it again.")
    if sound.rate == rate:
        return samples
    if len(samples) / sound.rate * rate > MOST_VALUES:
        raise SoundError(f"{sound.source} is too long at {rate} Hz.", "give a piece of it.")
    import soxr

    return np.asarray(soxr.resample(samples, sound.rate, rate, "HQ"), np.float32)


def windows(samples: Array, window: int, hop: int, source: str, most: int = MOST_VALUES) -> Array:
    """Windows × samples; the last one is filled with silence.

    Raises:
        SoundError: There are more than `most`, or they have more than MOST_VALUES samples; told before any is cut.
    """
    steps = 1 + max(0, -(-(len(samples) - window) // hop))
    if steps > most or steps * window > MOST_VALUES:
        allowed = max(1, min(most, MOST_VALUES // window))
        raise SoundError(f"{source} makes {steps} windows; {allowed} is the most.", "give a piece of it.")
    padded = np.zeros((steps - 1) * hop + window, np.float32)
    padded[: min(len(samples), len(padded))] = samples[: len(padded)]
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, window)[::hop])


def mel_bands(wanted: SoundInput) -> Array:
    """Weights of the FFT's bins in each band, bins × mels: triangles on the mel scale of HTK (O'Shaughnessy, 1987)."""
    mels = 1127 * np.log1p(np.array([wanted.low, wanted.high]) / 700)
    edges = np.linspace(mels[0], mels[1], wanted.mels + 2)
    bins = 1127 * np.log1p(np.arange(wanted.fft // 2 + 1) * wanted.rate / wanted.fft / 700)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights: Array = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0  # no band has the mean
    return weights.astype(np.float32)


def log_mel(samples: Array, wanted: SoundInput, bands: Array) -> Array:
    """Log-mel features, frames × mels (as in Hershey et al., arXiv:1609.09430).

    Args:
        samples: … × samples, at the wanted rate.
        wanted: Its window, hop, bands.
        bands: Of `mel_bands`.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, wanted.fft_window, axis=-1)[..., :: wanted.fft_hop, :]
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(wanted.fft_window) / wanted.fft_window)).astype(np.float32)
    magnitudes = np.abs(np.fft.rfft(frames * hann, wanted.fft)).astype(np.float32)
    powers = magnitudes**2 if wanted.power == 2 else magnitudes
    result: Array = np.log(powers @ bands + np.float32(wanted.offset)).astype(np.float32)
    return result


class Recordings:
    """Recordings in: the half of a task that tasks of sound share.

    Args:
        manifest: The model's.
    """

    def __init__(self, manifest: Manifest) -> None:
        if manifest.sound is None:
            raise ModelError(f"The manifest of {manifest.name} has no [sound].", "mend the manifest.")
        self.manifest = manifest
        self.wanted = manifest.sound
        if min(self.wanted.rate, self.wanted.window, self.wanted.hop) < 1:
            raise ModelError(f"The manifest of {manifest.name} has a rate, window or hop below 1.", "mend the manifest.")
        if self.wanted.features == "log-mel" and not self.wanted.fft_window <= min(self.wanted.fft, self.wanted.window):
            raise ModelError(f"{manifest.name}: fft_window is longer than fft, or than the window.", "mend the manifest.")
        self._bands = mel_bands(self.wanted) if self.wanted.features == "log-mel" else None

    def prepare(self, sample: Sample) -> Prepared:
        """One run for each window. Raises SoundError."""
        samples = mono(sample, self.wanted.rate, self.manifest.name)
        cut = windows(samples, self.wanted.window, self.wanted.hop, sample.source, MOST_WINDOWS)
        if (bands := self._bands) is not None:
            parts = (cut[at : at + AT_ONCE] for at in range(0, len(cut), AT_ONCE))
            cut = np.concatenate([log_mel(part, self.wanted, bands) for part in parts])
        try:
            tensors = cut.reshape(len(cut), *(self.wanted.shape or (1, *cut.shape[1:])))
        except ValueError as error:
            raise ModelError(f"{self.manifest.name}: {error}.", "mend the shape in the manifest's [sound].") from error
        batches = tuple({self.wanted.name: tensor} for tensor in tensors)
        return Prepared(batches, Stretch(len(samples) / self.wanted.rate, len(cut)))


class SoundClassification(Recordings):
    """What is heard, when, and in all (implements model.Task)."""

    def __init__(self, manifest: Manifest, head: Softmax) -> None:
        super().__init__(manifest)
        self._head = head

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """The mean of all windows as classes; each label's runs of windows as segments. Raises ModelError."""
        rows = []
        for outputs in answers:
            found = arrays(outputs, self.manifest)
            count(found, 1, self.manifest)
            rows.append(probabilities(found[0], self.manifest, self._head))
        table = np.stack(rows)
        stretch: Stretch = prepared.context
        segments = [
            segment
            for label in np.flatnonzero((table >= threshold).any(axis=0)).tolist()
            for segment in self._segments(table[:, label], label, threshold, stretch.seconds)
        ]
        segments = sorted(segments, key=lambda each: -each.score)[:MOST_SEGMENTS]
        segments.sort(key=lambda each: (each.begin, -each.score))
        return Findings(classes=best(table.mean(axis=0), self.manifest, self._head, threshold), segments=tuple(segments))

    def _segments(self, values: Array, label: int, threshold: float, seconds: float) -> list[Segment]:
        edges = np.flatnonzero(np.diff(values >= threshold, prepend=False, append=False))
        hop, window = self.wanted.hop / self.wanted.rate, self.wanted.window / self.wanted.rate
        found = []
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            score = round(float(values[first:end].max()), 4)
            until = min(seconds, (end - 1) * hop + window)
            found.append(Segment(self.manifest.labels[label], score, round(first * hop, 3), round(until, 3)))
        return found


class SoundEmbedding(Recordings):
    """A recording as a vector of length 1: the mean of its windows' (implements model.Task)."""

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """The vector. Raises ModelError."""
        vectors = []
        for outputs in answers:
            found = arrays(outputs, self.manifest)
            count(found, 1, self.manifest)
            vectors.append(found[0].reshape(-1))
        return Findings(embedding=unit(np.mean(vectors, axis=0), self.manifest))
