"""Whether a model finds other things than it did at first: the population stability index over labels and scores.

PSI = Σ (now − then) · ln(now / then) over the shares of each label, and of each tenth of the scores; half a finding is added to
each, so that nothing is divided by what never came up (Siddiqi, Credit Risk Scorecards, 2006, chapter on stability).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping

import msgspec

from appliance.core.findings import Box, Class, Segment
from appliance.core.inference.model import Findings
from appliance.core.inference.registry.records import Baseline
from appliance.core.inference.status import Drift

NOTHING = "(nothing)"
OTHER = "(other)"
LABELS = 100
"""Labels that are told apart; what comes up beyond them counts as one."""
TENTHS = 10


def seen(findings: Findings) -> list[tuple[str, float]]:
    """(label, score) of all that was found; one for nothing where nothing was. A mask has no score."""
    scored: list[Box | Class | Segment] = [*findings.boxes, *findings.classes[:1], *findings.segments]
    found = [(each.label, each.score) for each in scored] + [(mask.label, 1.0) for mask in findings.masks]
    return found or [(NOTHING, 0.0)]


def index(then: Mapping[str, int], now: Mapping[str, int]) -> float:
    """The population stability index of two counts; 0 where the shares are the same."""
    names = then.keys() | now.keys()
    before, after = sum(then.values()) + 0.5 * len(names), sum(now.values()) + 0.5 * len(names)
    total = 0.0
    for name in names:
        old, new = (then.get(name, 0) + 0.5) / before, (now.get(name, 0) + 0.5) / after
        total += (new - old) * math.log(new / old)
    return total


class DriftWatch:
    """Watches one version.

    Args:
        needed: Requests that make the baseline, and the window.
        limit: Index from which on it has drifted; it must fall below four fifths of it again.
        baseline: Of an earlier life; None where it is still to be gathered.
    """

    def __init__(self, needed: int, limit: float, baseline: Baseline | None = None) -> None:
        self._needed = needed
        self._limit = limit
        self.baseline = baseline
        self._window: deque[list[tuple[str, float]]] = deque(maxlen=needed)
        self._labels: Counter[str] = Counter()
        self._scores: Counter[str] = Counter()
        self._added = 0
        self.drifted = False
        self.blind = False
        """It gives vectors, whose drift is not told by labels and scores."""

    def add(self, findings: Findings) -> None:
        """Count what one request found; it may complete the baseline."""
        self.blind = bool(findings.embedding)
        if self.blind:
            return
        if len(self._window) == self._needed:
            self._count(self._window[0], -1)
        self._added += 1
        found = [(self._named(label), score) for label, score in seen(findings)]
        self._window.append(found)
        self._count(found, 1)
        if self.baseline is None and len(self._window) == self._needed:
            scores = tuple(self._scores.get(str(tenth), 0) for tenth in range(TENTHS))
            self.baseline = Baseline(requests=self._needed, labels=dict(self._labels), scores=scores)
            self._window.clear()
            self._labels.clear()
            self._scores.clear()

    def _named(self, label: str) -> str:
        known = self._labels if self.baseline is None else self.baseline.labels | self._labels
        return label if label in known or len(known) < LABELS else OTHER

    def _count(self, found: list[tuple[str, float]], by: int) -> None:
        for label, score in found:
            for counts, name in ((self._labels, label), (self._scores, _tenth(score))):
                counts[name] += by
                if not counts[name]:
                    del counts[name]

    def due(self) -> bool:
        """Whether it is time to judge: at every tenth of a window, for that takes a while."""
        return len(self._window) == self._needed and self._added % max(1, self._needed // 10) == 0

    def judge(self) -> tuple[bool, Drift]:
        """Whether the state changed since it was last asked, and how it is."""
        told = self.status()
        worst = max(told.labels or 0.0, told.scores or 0.0)
        before = self.drifted
        if told.labels is not None:
            self.drifted = worst > (self._limit * 0.8 if before else self._limit)
        state = "drifted" if self.drifted else told.state
        return self.drifted is not before, msgspec.structs.replace(told, state=state)

    def status(self) -> Drift:
        """As it is now."""
        base = self.baseline
        count = len(self._window)
        if base is None:
            return Drift(state="gathering", baseline=count, window=0, needed=self._needed, limit=self._limit)
        state = "drifted" if self.drifted else "watching"
        told = Drift(state=state, baseline=base.requests, window=count, needed=self._needed, limit=self._limit)
        if count < self._needed:
            return told
        scores = {str(tenth): number for tenth, number in enumerate(base.scores)}
        labels = index(base.labels, self._labels)
        return Drift(
            state=state, baseline=base.requests, window=count, needed=self._needed, limit=self._limit, labels=round(labels, 4),
            scores=round(index(scores, self._scores), 4), most=self._most(base.labels),
        )  # fmt: skip

    def _most(self, then: Mapping[str, int]) -> str:
        before, after = sum(then.values()) or 1, sum(self._labels.values()) or 1
        shares = {name: (then.get(name, 0) / before, self._labels.get(name, 0) / after) for name in then.keys() | self._labels}
        name = max(sorted(shares), key=lambda each: abs(shares[each][1] - shares[each][0]))
        old, new = shares[name]
        return f"{name}: {old:.0%} at first, {new:.0%} now" if old != new else ""


def _tenth(score: float) -> str:
    return str(min(TENTHS - 1, max(0, int(score * TENTHS))))
