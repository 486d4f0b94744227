"""Brings looks, policy and plan together: what is seen decides the phase, the phase drives the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.core.ports import Clock
from appliance.core.power import policy
from appliance.core.power.combine import Combined, combine
from appliance.core.power.due import Figures, due
from appliance.core.power.model import Phase, PowerEvent, Setting, Supply
from appliance.core.power.policy import ON_BATTERY, Limits, PolicyState, Transition
from appliance.core.power.runner import PlanRunner
from appliance.core.power.teller import Teller
from appliance.core.power.watch import Watch

SEVERE = {Phase.grid: "info", Phase.critical: "critical", Phase.shutdown: "critical"}


class Control:
    """Decides; has no task of its own.

    Args:
        limits: Of the policy.
        feeds: Names of the UPSes that feed this machine; empty for all.
        runner: Carries the plan out.
        teller: Told of transitions.
        clock: Both clocks.
    """

    def __init__(self, limits: Limits, feeds: Sequence[str], runner: PlanRunner, teller: Teller, clock: Clock) -> None:
        self.limits = limits
        self.state = PolicyState()
        self.setting = Setting.auto
        self.combined = Combined()
        self.since = 0.0
        """Wall clock at which the phase began."""
        self.transitions = 0
        self.ready = False
        """What was kept of the plan is read, or is not waited for any longer."""
        self._feeds, self._runner, self._teller, self._clock = tuple(feeds), runner, teller, clock

    def decide(self, watches: Mapping[str, Watch]) -> bool:
        """One decision; returns whether the phase became another one."""
        self.combined = combine([watch.newest() for watch in watches.values() if not watch.ghost], self._feeds)
        self.state, moved = policy.step(self.state, self.combined.seen, self.setting, self.limits, self._clock.monotonic())
        for each in moved:
            self._moved(each)
        if self.ready:
            self._drive()
        return bool(moved)

    def _moved(self, each: Transition) -> None:
        self.transitions += 1
        self.since = self._clock.wall()
        text = f"{each.before} → {each.after}: {each.reason}"
        self.tell("phase", text, SEVERE.get(each.after, "warning"), each.before, each.after)

    def tell(self, kind: str, text: str, severity: str, before: str = "", after: str = "") -> None:
        """Have an event told, with the figures of now."""
        seen = self.combined.seen
        self._teller.tell(PowerEvent(
            self._clock.wall(), kind, text, severity, before, after, seen.supply, seen.percent, self.combined.runtime,
        ))  # fmt: skip

    def figures(self) -> Figures:
        """What the plan's conditions are held against."""
        return Figures(self.state.phase, self.combined.seen.percent, self.combined.runtime, self.state.on_battery)

    def _drive(self) -> None:
        if self.state.phase is Phase.grid:
            self._runner.turn_back(self.state.reason)
        elif self.state.phase in ON_BATTERY:
            count, why = due(self._runner.current, self.figures(), self._runner.needs())
            if count:
                self._runner.advance(count, why)

    def may_halt(self) -> str:
        """Why this machine must not be halted at this moment: mains is there, and nobody ordered it."""
        seen = self.combined.seen
        if seen.supply is Supply.mains and not seen.forced and self.setting is not Setting.off_grid:
            return "mains is there at this moment"
        return "" if self.state.phase in ON_BATTERY else f"the phase is {self.state.phase}"
