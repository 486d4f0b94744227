"""Which device a request runs on, and why. Pure: it is told all it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SPILL = {"performance": 1.0, "balanced": 2.0, "power-saving": float("inf")}
"""By power mode: how many times longer the preferred device must take than another, before that is taken instead of it."""
THROTTLED = 1.5
"""A throttled device is reckoned so many times slower than it was."""


@dataclass(frozen=True)
class Candidate:
    """A device, seen from one request.

    Attributes:
        name: The accelerator's.
        lacks: Why it cannot run the model whatever happens (no file of its kind); empty where it can.
        down: Why it does not work now, or cannot load this model; empty where it does.
        missing: It was never there since the start: nobody reckoned with it.
        hot: Why it should be spared; empty where not.
        throttled: It is slower than usual.
        free: A batch could begin now.
        wait: Seconds until one could, with what waits for it before this request.
        expected: Seconds of a run; None where none is known.
    """

    name: str
    lacks: str = ""
    down: str = ""
    hot: str = ""
    throttled: bool = False
    free: bool = True
    wait: float = 0.0
    expected: float | None = None
    missing: bool = False

    @property
    def total(self) -> float | None:
        """Seconds until an answer; None where that is not known."""
        if self.expected is None:
            return None
        return self.wait + self.expected * (THROTTLED if self.throttled else 1.0)


@dataclass(frozen=True)
class Choice:
    """What was decided.

    Attributes:
        name: The device; empty where there is none.
        reason: Why this one, or why none.
        wanted: The one it should have been, where it fell back; empty else.
        possible: Whether any device could run the model at another time.
    """

    name: str
    reason: str
    wanted: str = ""
    possible: bool = True


def choose(candidates: Sequence[Candidate], power: str | None) -> Choice:
    """Pick a device.

    Args:
        candidates: In the order of preference.
        power: "performance", "balanced", "power-saving" or None.
    """
    able = [each for each in candidates if not each.lacks]
    if not able:
        return Choice("", "; ".join(f"{each.name}: {each.lacks}" for each in candidates), possible=False)
    working = [each for each in able if not each.down]
    if not working:
        return Choice("", "; ".join(f"{each.name}: {each.down}" for each in able))
    cool = [each for each in working if not each.hot]
    chosen = (cool or working)[0]
    first = candidates[0]
    wanted = next(each for each in able if not each.missing)
    if chosen is not wanted:
        return Choice(chosen.name, f"{wanted.name}: {wanted.down or wanted.hot}", wanted=wanted.name)
    if (other := _quicker(chosen, cool, power)) is not None:
        return other
    if chosen is not first:
        return Choice(chosen.name, f"{first.name}: {first.down if first.missing else first.lacks}")
    if len(candidates) == 1:
        return Choice(chosen.name, "it is the only device")
    return Choice(chosen.name, f"{chosen.name} is first" + (f", though {chosen.hot}" if chosen.hot else ""))


def slack(chosen: Candidate, candidates: Sequence[Candidate], power: str | None) -> float:
    """Seconds of further work that may wait for the chosen one until another that is free is taken instead; may be infinite."""
    if chosen.total is None or chosen.free:
        return float("inf")
    factor = SPILL.get(power or "balanced", SPILL["balanced"])
    others = [each for each in candidates if each is not chosen and _able(each) and not each.hot and each.free]
    return min((factor * each.total - chosen.total for each in others if each.total is not None), default=float("inf"))


def _able(each: Candidate) -> bool:
    return not each.lacks and not each.down


def _quicker(chosen: Candidate, others: Sequence[Candidate], power: str | None) -> Choice | None:
    """Another device that is free while the chosen one is so busy that it would answer much later."""
    factor = SPILL.get(power or "balanced", SPILL["balanced"])
    if chosen.free or chosen.total is None:
        return None
    better = [
        each
        for each in others
        if each is not chosen and each.free and each.total is not None and chosen.total > factor * each.total
    ]
    if not better:
        return None
    best = min(better, key=lambda each: each.total or 0.0)
    mode = f", power mode {power}" if power else ""
    return Choice(
        best.name, f"{chosen.name} is busy: {chosen.total * 1000:.0f} ms, here {(best.total or 0.0) * 1000:.0f} ms{mode}"
    )
