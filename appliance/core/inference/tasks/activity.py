"""When somebody speaks: a probability for each window, from a model that remembers the windows before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from appliance.core.findings import Segment
from appliance.core.inference.manifest import Manifest, Stateful
from appliance.core.inference.model import Findings, Prepared, Sample
from appliance.core.inference.tasks.audio import Recordings, Stretch, mono, windows
from appliance.core.inference.tasks.outputs import Array, arrays, misfit
from appliance.errors import ModelError

LARGEST_STATE = 1_000_000
"""Values of one state."""
AT_ONCE = 10_000
"""Windows in one run; a longer recording takes several, which hand the state on."""


class VoiceActivity(Recordings):
    """Segments of a label (implements model.Task)."""

    def __init__(self, manifest: Manifest, head: Stateful) -> None:
        super().__init__(manifest)
        self._head = head
        if math.prod(head.state_shape) > LARGEST_STATE:
            raise ModelError(f"{manifest.name} has a state of more than {LARGEST_STATE} values.", "mend the manifest.")
        if len(head.state_in) != len(head.state_out) or not head.context <= self.wanted.hop <= self.wanted.window:
            raise ModelError(
                f"{manifest.name} needs a state_out for each state_in, and a context that a hop holds, and a window that.",
                "mend the manifest.",
            )

    def prepare(self, sample: Sample) -> Prepared:
        """Windows with the samples before each in front of it. Raises SoundError."""
        samples = mono(sample, self.wanted.rate, self.manifest.name)
        cut = windows(samples, self.wanted.window, self.wanted.hop, sample.source)
        if self._head.context:
            before = np.zeros((len(cut), self._head.context), np.float32)
            before[1:] = cut[:-1, self.wanted.hop - self._head.context : self.wanted.hop]
            cut = np.concatenate([before, cut], axis=1)
        states = {name: np.zeros(self._head.state_shape, np.float32) for name in self._head.state_in}
        batches: tuple[Mapping[str, Array], ...] = tuple(
            {self.wanted.name: cut[start : start + AT_ONCE], **states} for start in range(0, len(cut), AT_ONCE)
        )
        carry = dict(zip(self._head.state_in, self._head.state_out, strict=True))
        return Prepared(batches, Stretch(len(samples) / self.wanted.rate, len(cut)), carry)

    def finish(
        self, answers: Sequence[Sequence[Any]], names: tuple[str, ...], prepared: Prepared, threshold: float
    ) -> Findings:
        """Stretches of at least the threshold. Raises ModelError."""
        stretch: Stretch = prepared.context
        place = next((index for index, name in enumerate(names) if name not in self._head.state_out), 0)
        parts = [arrays([outputs[place]], self.manifest)[0].reshape(-1) for outputs in answers]
        values = np.concatenate(parts)
        if len(values) != stretch.windows or len(self.manifest.labels) != 1:
            labels = len(self.manifest.labels)
            raise misfit(self.manifest, [values.shape], f"{stretch.windows} windows and {labels} labels ask for as many values")
        return Findings(segments=self._segments(values, threshold, stretch.seconds))

    def _segments(self, values: Array, threshold: float, seconds: float) -> tuple[Segment, ...]:
        """It begins at the threshold, and ends where it stays `fall` below for `silence` seconds."""
        hop = self.wanted.hop / self.wanted.rate
        head, label = self._head, self.manifest.labels[0]
        found: list[tuple[int, int]] = []
        begin = low = -1
        for index, value in enumerate(values.tolist()):
            if value >= threshold:
                begin, low = begin if begin >= 0 else index, -1
            elif value < threshold - head.fall and begin >= 0:
                low = low if low >= 0 else index
                if (index - low) * hop >= head.silence:
                    found.append((begin, low))
                    begin = low = -1
        if begin >= 0:
            found.append((begin, len(values)))
        return tuple(
            Segment(label, round(float(values[a:b].max()), 4), round(a * hop, 3), round(min(b * hop, seconds), 3))
            for a, b in found
            if min(b * hop, seconds) - a * hop > head.shortest
        )


def carried(batch: Mapping[str, Array], prepared: Prepared, outputs: Sequence[Any], names: Sequence[str]) -> dict[str, Array]:
    """The next run's tensors, with what the run before hands on.

    Args:
        batch: The next run's.
        prepared: It says what is handed on.
        outputs: Of the run before.
        names: Of the outputs.
    """
    told = dict(zip(names, outputs, strict=False))
    return {**batch, **{name: np.asarray(told[source]) for name, source in prepared.carry.items() if source in told}}
