"""Several UPSes, one decision: which of them feed this machine, and what holds where they disagree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from appliance.core.power.model import Supply, UpsReading
from appliance.core.power.policy import Seen


class Look(msgspec.Struct, frozen=True):
    """The newest of one UPS. `reading` is None where it does not answer now."""

    name: str
    reading: UpsReading | None = None
    runtime: float | None = None
    """Seconds left, by the UPS or the trend."""
    runtime_by: str = ""


class Combined(msgspec.Struct, frozen=True):
    """What is decided by."""

    seen: Seen = Seen()
    names: tuple[str, ...] = ()
    """Those that feed this machine."""
    reason: str = ""
    """Which, and where they disagree, which one counts."""
    runtime: float | None = None
    """Seconds left, by whoever says the least."""
    runtime_by: str = ""
    problem: str = ""
    """What the operator should mend, such as a configured UPS that was not found."""
    next_step: str = ""


def feeding(names: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Those that feed this machine, and what is wrong with that.

    Args:
        names: Of all that were found.
        wanted: As configured: whole names, or their beginnings up to an @ or a colon.
    """
    if not wanted:
        several = f"{len(names)} UPSes are found, and nobody said which of them feeds this machine: the worst of them counts"
        return tuple(sorted(names)), several if len(names) > 1 else ""
    found = {each: tuple(name for name in names if is_called(name, each)) for each in wanted}
    missing = [each for each, those in found.items() if not those]
    chosen = tuple(dict.fromkeys(name for each in wanted for name in found[each]))
    return chosen, f"the configured UPS {', '.join(missing)} was not found" if missing else ""


def is_called(name: str, wanted: str) -> bool:
    """Whether a UPS is the one that is meant: "nut:sim@127.0.0.1" is meant by its whole name, by "nut:sim" and by "nut"."""
    return name == wanted or (name.startswith(wanted) and name[len(wanted)] in "@:")


def combine(looks: Iterable[Look], wanted: Sequence[str]) -> Combined:
    """One word from all of them.

    Args:
        looks: The newest look at each.
        wanted: Names of those that feed this machine; empty for all.
    """
    by_name = {look.name: look for look in looks}
    names, problem = feeding(tuple(by_name), wanted)
    step = "set power.feeds to its name; see `prime-spark power status`." if problem else ""
    if not names:
        return Combined(reason="no UPS", problem=problem, next_step=step)
    those = [by_name[name] for name in names]
    told = [look.reading for look in those if look.reading is not None]
    missing = bool(wanted) and "not found" in problem
    supply = _supply([look.reading for look in those], missing=missing)
    left = min(((look.runtime, look.runtime_by) for look in those if look.reading and look.runtime is not None), default=None)
    seen = Seen(
        supply=supply,
        percent=_least(each.percent for each in told),
        runtime=_least(each.runtime for each in told),
        low=None if all(each.low is None for each in told) else any(each.low for each in told),
        forced=any(each.forced for each in told),
    )
    reason = _reason(those, supply)
    runtime, by = left or (None, "")
    return Combined(seen, names, reason, runtime=runtime, runtime_by=by, problem=problem, next_step=step)


def _supply(readings: Sequence[UpsReading | None], *, missing: bool) -> Supply:
    """Battery where one of them says so; mains only where all of them do."""
    told = [Supply.unknown if each is None else each.supply for each in readings]
    if Supply.battery in told:
        return Supply.battery
    return Supply.mains if not missing and all(each is Supply.mains for each in told) else Supply.unknown


def _least(values: Iterable[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _reason(looks: Sequence[Look], supply: Supply) -> str:
    """Which UPS is decided by; where they do not say the same, what each says."""
    says = {look.name: "no answer" if look.reading is None else look.reading.supply.value for look in looks}
    if len(looks) == 1:
        return looks[0].name
    if len(set(says.values())) == 1:
        return f"{', '.join(says)}: the lower figures count"
    told = ", ".join(f"{name}: {what}" for name, what in says.items())
    return f"they disagree ({told}); the worse one counts: {supply.value}"
