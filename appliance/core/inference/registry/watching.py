"""How every version serves, whether it drifts or fails too often, and how the two of a split compare."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from appliance.core.inference.model import Findings
from appliance.core.inference.registry.drift import DriftWatch
from appliance.core.inference.registry.records import Baseline
from appliance.core.inference.registry.served import ServedFigures, agree
from appliance.core.inference.status import Drift, Served
from appliance.core.model import Severity
from appliance.settinginference import ModelSettings

Note = Callable[[str, Severity, dict[str, Any]], Awaitable[None]]
"""Tells of an event: its name, how much it matters, its facts."""
LEAST = 20
"""Requests before an error rate means anything."""
LATEST = 100
"""Requests over which it is taken."""
TOO_MANY = 0.1
"""Share of them that may fail; told again below half of it."""


class Comparison:
    """The two of a split: since it began, and on the inputs that both ran on."""

    def __init__(self) -> None:
        self.active = ServedFigures()
        self.candidate = ServedFigures()
        self.compared = 0
        self.agreed = 0
        self.skipped = 0

    def compare(self, one: Findings, other: Findings) -> None:
        """Both ran on the same input."""
        self.compared += 1
        self.agreed += agree(one, other)

    @property
    def agreement(self) -> float | None:
        """Share of the inputs on which both found the same; None where none was compared."""
        return self.agreed / self.compared if self.compared else None


class Watching:
    """Takes what each request came to.

    Args:
        settings: Bounds.
        keep: Keeps a baseline that is complete, by the version's key.
        note: Tells of drift and of errors.
    """

    def __init__(self, settings: ModelSettings, keep: Callable[[str, Baseline], Awaitable[None]], note: Note) -> None:
        self._settings = settings
        self._keep = keep
        self._note = note
        self._served: dict[str, ServedFigures] = {}
        self._drifts: dict[str, DriftWatch] = {}
        self._failing: set[str] = set()

    def begin(self, key: str, baseline: Baseline | None) -> None:
        """A version may serve from now on; its earlier figures stay."""
        self._served.setdefault(key, ServedFigures())
        if key not in self._drifts:
            self._drifts[key] = DriftWatch(self._settings.drift_requests, self._settings.drift_limit, baseline)

    def forget(self, key: str) -> None:
        """The version is gone."""
        self._served.pop(key, None)
        self._drifts.pop(key, None)
        self._failing.discard(key)

    def add(self, key: str, findings: Findings | None, milliseconds: float, *, usual: bool = True) -> list[Awaitable[None]]:
        """Count a request, for drift only where its threshold was the usual one; what is to be told or kept because of it."""
        self.begin(key, None)
        served, watch = self._served[key], self._drifts[key]
        served.add(milliseconds, good=findings is not None)
        todo = self._errors(key, served)
        if findings is not None and usual:
            fresh = watch.baseline is None
            watch.add(findings)
            if fresh and watch.baseline is not None:
                todo.append(self._keep(key, watch.baseline))
            todo += self._drifted(key, watch)
        return todo

    def _errors(self, key: str, served: ServedFigures) -> list[Awaitable[None]]:
        rate = served.rate(LATEST)
        if rate is None or served.requests < LEAST:
            return []
        facts = {"model": key, "error_rate": round(rate, 4), "limit": TOO_MANY, "requests": min(served.requests, LATEST)}
        if rate > TOO_MANY and key not in self._failing:
            self._failing.add(key)
            return [self._note("model.errors", Severity.warning, facts)]
        if rate <= TOO_MANY / 2 and key in self._failing:
            self._failing.discard(key)
            return [self._note("model.errors-ended", Severity.info, facts)]
        return []

    def _drifted(self, key: str, watch: DriftWatch) -> list[Awaitable[None]]:
        if watch.baseline is None or not watch.due():
            return []
        changed, told = watch.judge()
        if not changed:
            return []
        facts = {"model": key, "labels": told.labels, "scores": told.scores, "limit": told.limit, "most": told.most}
        if watch.drifted:
            return [self._note("model.drift", Severity.warning, facts)]
        return [self._note("model.drift-ended", Severity.info, facts)]

    def served(self, key: str) -> Served:
        """How a version serves."""
        found = self._served.get(key)
        return found.status() if found is not None else Served()

    def drift(self, key: str) -> Drift | None:
        """Whether a version drifts; None where it never served, or gives nothing that could be counted (vectors)."""
        found = self._drifts.get(key)
        return found.status() if found is not None and not found.blind else None
