"""What a window of a sensor's values is like, in a dozen numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance.core.inference.model import Findings, Prepared, Readings, Sample
from appliance.core.inference.tasks.outputs import Array
from appliance.errors import ModelError

LEAST_FOR_SPECTRUM = 8
"""Values; of fewer no frequency is told."""
STEADY = 0.5
"""A spectrum is told where no gap between readings is this share longer or shorter than the middle one."""


def of_window(times: Array, values: Array) -> dict[str, float]:
    """Statistics of one window, by name.

    count, mean, std (population), min, max, range, median, rms; slope (units a second, least squares); zero_crossings (of the
    values about their mean), crossings_hz; dominant_hz and dominant_amplitude (of the largest line of the spectrum about the
    mean). What the readings do not give (a slope of one value, a frequency of values at unsteady times) is left out, and what
    no float holds.

    Args:
        times: Seconds, oldest first.
        values: As many.
    """
    told = {
        "count": float(len(values)), "mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max(),
        "range": np.ptp(values), "median": np.median(values), "rms": np.sqrt(np.mean(values**2)),
    }  # fmt: skip
    span = float(times[-1] - times[0])
    about = values - values.mean()
    if span > 0:
        centred = times - times.mean()
        told["slope"] = (centred @ about) / (centred @ centred)
        signs = np.sign(about)
        signs = signs[signs != 0]
        told["zero_crossings"] = float(np.count_nonzero(signs[1:] != signs[:-1]))
        told["crossings_hz"] = told["zero_crossings"] / span
        told |= _spectrum(times, about)
    return {name: float(value) for name, value in told.items() if np.isfinite(value)}


def _spectrum(times: Array, about: Array) -> dict[str, Any]:
    gaps = np.diff(times)
    gap = float(np.median(gaps))
    if len(about) < LEAST_FOR_SPECTRUM or gap <= 0 or np.abs(gaps - gap).max() > STEADY * gap or not about.any():
        return {}
    even = np.interp(times[0] + gap * np.arange(len(times)), times, about)
    lines = np.abs(np.fft.rfft(even * np.hanning(len(even))))[1:]
    best = int(lines.argmax())
    amplitude = 2 * lines[best] / np.hanning(len(even)).sum()
    return {"dominant_hz": (best + 1) / (gap * len(even)), "dominant_amplitude": amplitude}


class WindowStatistics:
    """The newest window of a sensor's readings; no model is run (implements model.Task).

    Args:
        seconds: Length of the window; all readings where 0.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def prepare(self, sample: Sample) -> Prepared:
        """Nothing to run; the statistics are in the context. Raises ModelError where there are no readings."""
        if not isinstance(sample, Readings):
            raise ModelError("Statistics are of a sensor's readings, and these are none.", "give readings.")
        times, values = np.asarray(sample.times, np.float64), np.asarray(sample.values, np.float64)
        if times.shape != values.shape or times.ndim != 1 or not times.size:
            raise ModelError(f"{sample.source} gives {len(times)} times for {len(values)} values.", "give one for each.")
        if not (np.isfinite(times).all() and np.isfinite(values).all()):
            raise ModelError(f"{sample.source} gives values that are no numbers.", "look after the sensor.")
        if (np.diff(times) < 0).any():
            order = np.argsort(times, kind="stable")  # a clock that was set back
            times, values = times[order], values[order]
        if self._seconds:
            first = int(np.searchsorted(times, times[-1] - self._seconds, side="right"))
            times, values = times[first:], values[first:]
        return Prepared((), of_window(times, values))

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """The statistics."""
        return Findings(statistics=prepared.context)
