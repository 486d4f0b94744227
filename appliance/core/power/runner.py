"""Carries the plan out: forward stage by stage, back when mains returns. Every step is written down before it is taken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from appliance.core.events import new_id
from appliance.core.ports import Clock
from appliance.core.power import plan as plans
from appliance.core.power.book import KeptPlan, PowerBook, Run
from appliance.core.power.model import PlanStatus, RunState, StageState, StageStatus, StepStatus
from appliance.core.power.plan import Plan, Step
from appliance.core.power.record import AFRESH, TAKEN, Record, afresh
from appliance.errors import AbsentError, ApplianceError, ConflictError, PlanError

log = logging.getLogger(__name__)

HALT_AGAIN = 15.0
"""Seconds until a halt that did not come about is tried again."""
UNDO = 120.0
"""Seconds for taking one step back: what hangs must not hold up the next outage."""


class Hands(Protocol):
    """Takes the steps."""

    def touches(self, step: Step) -> tuple[str, ...]:
        """What a step would change now, by name."""

    async def do(self, step: Step, touched: tuple[str, ...]) -> str:
        """Take a step; says what came of it. Raises AbsentError where there is nothing to do, ApplianceError."""

    async def undo(self, do: str, touched: tuple[str, ...]) -> str:
        """Take it back; says what is left over for a person to do, or nothing. Raises ApplianceError."""


Tell = Callable[[str, str, str], None]
"""(kind, text, severity) of an event."""


class PlanRunner:
    """One plan at work.

    Args:
        hands: Take the steps.
        book: Keeps it.
        clock: Both clocks.
        tell: Told of every stage.
        changed: Called when the status is another one.
    """

    def __init__(self, hands: Hands, book: PowerBook, clock: Clock, tell: Tell, changed: Callable[[], None]) -> None:
        self._hands, self._book, self._clock, self._tell, self._changed = hands, book, clock, tell, changed
        self.kept = KeptPlan(0, 0.0, "", plans.DEFAULT)
        self.plan: Plan = plans.parse(plans.DEFAULT)
        self._record = Record(book, changed)
        self.ended = asyncio.Event()
        """Set while there is no run."""
        self.ended.set()
        self.job_id = ""
        self._running: Plan = self.plan
        self._notes: tuple[str, ...] = ()
        self._measured: dict[str, float] = {}
        self._goal = 0
        self._why = ""
        self._back = ""
        self._wake = asyncio.Event()
        self._stage: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    @property
    def run(self) -> Run | None:
        """What is being carried out."""
        return self._record.run

    async def load(self) -> None:
        """Read the plan, and where a run stood when the appliance ended. Raises StoreError."""
        for kept in (await self._book.plans())[:1]:
            try:
                self.plan, self.kept = plans.parse(kept.document), kept
            except PlanError as error:
                log.error("version %d of the power plan cannot be read; the default plan is used: %s", kept.version, error)
        self._measured = await self._book.measured()
        self._notes = await self._book.notes()
        if (run := self.run) is not None:  # the service was restarted, the appliance was not
            self._record.change(stages=tuple(afresh(each) if each.state is StageState.cut else each for each in run.stages))
        elif (run := await self._book.run()) is not None:
            self._resume(run)

    def _resume(self, run: Run) -> None:
        """Take up a run that the end of the appliance cut off: what only this process knew of is to be done again."""
        try:
            self._running = plans.parse(run.document)
        except PlanError as error:
            log.error("the run of the power plan cannot be taken up: %s", error)
            return
        stages = tuple(afresh(stage) for stage in run.stages)
        state = run.state if run.state is RunState.aborted else RunState.holding
        self._record.run = msgspec.structs.replace(run, stages=stages, state=state, halted=False)
        self.ended.clear()
        begun = [stage.name for stage in run.stages if stage.state is not StageState.waiting]
        how = "after this machine was halted" if run.halted else "in its midst"
        self._tell("plan", f"the appliance was restarted {how}; begun were: {', '.join(begun) or 'none'}", "warning")

    # -- what the policy asks for

    def advance(self, count: int, why: str) -> None:
        """Have so many stages from the first on be begun; never fewer than before."""
        if self.run is None and count and not self._back:
            self._begin()
        if count > self._goal:
            self._goal, self._why = count, why
            self._wake.set()

    def turn_back(self, why: str) -> None:
        """Stop, and take back what was done."""
        if self.run is not None and not self._back:
            self._back, self._goal = why, 0
            if self._stage is not None:
                self._stage.cancel()
            self._wake.set()

    def abort(self, who: str) -> None:
        """Begin nothing further until mains is back. Raises ConflictError where nothing runs."""
        if self.run is None or self.run.state is RunState.aborted or self._back:
            raise ConflictError("No power plan is being carried out.", "there is nothing to abort.")
        if self.run.halted:
            raise ConflictError("This machine is being halted already.", "it cannot be held back any more.")
        self._record.change(state=RunState.aborted)
        if self._stage is not None:
            self._stage.cancel()
        self._tell("plan", f"{who} aborted the plan; nothing further is begun until mains is back", "warning")
        self._wake.set()

    def _begin(self) -> None:
        self._running, self._notes = self.plan, ()
        stages = tuple(self._stages(self._running))
        self._record.run = Run(new_id(), self.kept.version, self.kept.document, self._clock.wall(), RunState.running, stages)
        self._goal = 0
        self.ended.clear()

    # -- work

    async def work(self) -> None:
        """Carry out what is asked for, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (part := self._next()) is not None:
                await part()
            self._changed()

    def _next(self) -> Callable[[], Awaitable[None]] | None:
        run = self.run
        if run is None:
            return None
        if self._back:
            return self._reverse
        if run.state is RunState.aborted or self._record.position() >= self._goal:
            if run.state is RunState.running:
                return self._hold
            return self._record.save if run.state is RunState.aborted and self._record.dirty else None
        return self._one_stage

    async def _hold(self) -> None:
        self._record.change(state=RunState.holding)
        await self._record.save()

    async def _one_stage(self) -> None:
        at = self._record.position()
        self._record.change(state=RunState.running)
        self._stage = asyncio.create_task(self._carry_out(at), name=f"power stage {at}")
        try:
            await asyncio.wait({self._stage})
            if not self._stage.cancelled():
                self._stage.result()
        except asyncio.CancelledError:
            self._stage.cancel()
            await asyncio.wait({self._stage})
            raise
        finally:
            self._stage = None

    async def _carry_out(self, at: int) -> None:
        stage, began = self._running.stages[at], self._clock.monotonic()
        self._record.stage(at, state=StageState.running, why=self._why, began=self._clock.wall())
        self._tell("stage", f"{stage.name} begins: {self._why}", "warning")
        await self._record.save()
        try:
            async with asyncio.timeout(stage.limit_seconds):
                for index, step in enumerate(stage.steps):
                    await self._take(at, index, step)
            state = self._record.outcome(at)
        except TimeoutError:
            state = self._record.leave(at, StageState.overdue, f"not within {stage.limit_seconds:g} s")
        except asyncio.CancelledError:
            self._record.leave(at, StageState.cut, "")
            self._record.stage(at, state=StageState.cut, seconds=self._clock.monotonic() - began)
            raise
        seconds = self._clock.monotonic() - began
        self._record.stage(at, state=state, seconds=seconds)
        self._tell("stage", self._record.told(at), "info" if state in {StageState.done, StageState.skipped} else "warning")
        await self._record.save()
        if state in {StageState.done, StageState.overdue}:
            await self._measure(stage.name, seconds)
        if stage.steps[-1].do == "halt" and self._record.steps(at)[-1].state is not StageState.done and self.run is not None:
            self._later = asyncio.get_running_loop().call_later(HALT_AGAIN, self._halt_again, at, self.run.run_id)

    def _halt_again(self, at: int, run_id: str) -> None:
        """A halt that did not come about is tried again: the only other end is an empty battery."""
        if self.run is not None and self.run.run_id == run_id and not self._back and self.run.state is not RunState.aborted:
            self._record.stage(at, state=StageState.waiting)
            self._wake.set()

    async def _take(self, at: int, index: int, step: Step) -> None:
        """One step; a failing one keeps no other from being taken."""
        before = self._record.steps(at)[index]
        unsure = before.state is StageState.cut and step.do == "power-down"  # told again: nobody knows whether it heard
        if before.state in TAKEN and step.do not in AFRESH and not unsure:
            return
        touched = tuple(dict.fromkeys((*before.touched, *self._hands.touches(step))))
        self._record.step(at, index, state=StageState.running, touched=touched)
        if step.do == "halt":
            self._record.change(halted=True)
        await self._record.save()
        try:
            detail, state = await self._hands.do(step, touched), StageState.done
        except AbsentError as error:
            detail, state = error.message, StageState.skipped
        except ApplianceError as error:
            detail, state = str(error), StageState.failed
        except Exception as error:
            log.exception("the step %s of the power plan failed", step.do)
            detail, state = f"{type(error).__name__}: {error}", StageState.failed
        if step.do == "halt" and state is not StageState.done:
            self._record.change(halted=False)
        if unsure and state is StageState.failed:
            state = StageState.cut
        self._record.step(at, index, state=state, detail=detail)

    async def _reverse(self) -> None:
        """Take back what was done, the last first."""
        why, run = self._back, self.run
        if run is None:
            return
        self._record.change(state=RunState.reversing)
        self._tell("plan", f"the plan is taken back: {why}", "info")
        await self._record.save()
        for at in range(len(run.stages) - 1, -1, -1):
            for index in range(len(self._record.steps(at)) - 1, -1, -1):
                await self._undo(at, index)
            if self.run is not None and self.run.stages[at].state is not StageState.waiting:
                self._record.stage(at, state=StageState.reversed)
        await self._end()

    async def _undo(self, at: int, index: int) -> None:
        step = self._record.steps(at)[index]
        if step.state not in TAKEN:
            return
        try:
            async with asyncio.timeout(UNDO):
                left = await self._hands.undo(step.do, step.touched)
            left = _sure(step, left)
        except TimeoutError:
            left = f"{step.do} was not taken back within {UNDO:g} s"
        except ApplianceError as error:
            left = f"{step.do} was not taken back: {error}"
        except Exception as error:
            log.exception("the step %s of the power plan was not taken back", step.do)
            left = f"{step.do} was not taken back: {type(error).__name__}: {error}"
        self._record.step(at, index, state=StageState.reversed, detail=left or step.detail)
        if left:
            self._record.change(notes=(*(self.run.notes if self.run else ()), left))
            self._tell("plan", left, "warning")
        await self._record.save()

    async def _end(self) -> None:
        notes = self.run.notes if self.run is not None else ()
        self._tell("plan", "what the plan did is taken back" + (f"; left over: {'; '.join(notes)}" if notes else ""), "info")
        self._record.run, self._back, self._notes, self._goal, self.job_id = None, "", notes, 0, ""
        self.ended.set()
        await self._record.bounded(self._book.keep_run(None))
        await self._record.bounded(self._book.keep_notes(notes))
        self._changed()

    # -- the plan itself

    async def set_plan(self, author: str, document: str) -> KeptPlan:
        """Use a new plan, from the next run on. Raises PlanError, StoreError."""
        plan = plans.parse(document)
        self.kept = await self._book.keep_plan(author, document)
        self.plan = plan
        self._tell("plan", f"{author} set version {self.kept.version} of the plan", "info")
        self._changed()
        return self.kept

    async def forget_notes(self) -> None:
        """Somebody has seen to what the last run left over. Raises ConflictError, StoreError."""
        if not self._notes:
            raise ConflictError("Nothing is left over of the last run.", "there is nothing to do.")
        await self._book.keep_notes(())
        self._notes = ()
        self._changed()

    def needs(self) -> list[float]:
        """Seconds that each stage is expected to take, of the plan that counts now."""
        return [self._measured.get(stage.name, stage.limit_seconds) for stage in self.current.stages]

    def planned_needs(self) -> list[float]:
        """The same of the plan of the next run."""
        return [self._measured.get(stage.name, stage.limit_seconds) for stage in self.plan.stages]

    @property
    def aborted(self) -> bool:
        """An operator holds it up until mains is back."""
        return self.run is not None and self.run.state is RunState.aborted

    @property
    def current(self) -> Plan:
        """The plan that is carried out; between runs, the one that would be."""
        return self._running if self.run is not None else self.plan

    @property
    def begun(self) -> int:
        """Stages that were begun."""
        return self._record.position() if self.run is not None else 0

    def status(self, problem: str = "") -> PlanStatus:
        """For screens."""
        run = self.run
        stages = run.stages if run is not None else tuple(self._stages(self.plan))
        left = sum(self.needs()[self.begun :])
        return PlanStatus(
            version=run.version if run else self.kept.version, author=self.kept.author, changed=self.kept.time,
            state=run.state if run else RunState.ready, stages=stages, needs=left, margin=self.current.margin_seconds,
            run_id=run.run_id if run else "", job_id=self.job_id, began=run.began if run else 0.0,
            problem=problem or self._record.unsaved, notes=run.notes if run else self._notes,
        )  # fmt: skip

    def _stages(self, plan: Plan) -> Sequence[StageStatus]:
        return [
            StageStatus(
                stage.name, stage.condition, stage.limit_seconds, self._measured.get(stage.name, stage.limit_seconds),
                "measured" if stage.name in self._measured else "limit",
                tuple(StepStatus(step.do, step.target) for step in stage.steps),
            )
            for stage in plan.stages
        ]  # fmt: skip

    async def _measure(self, name: str, seconds: float) -> None:
        self._measured[name] = max(seconds, 0.0)
        await self._record.bounded(self._book.add_measured(name, seconds))


def _sure(step: StepStatus, left: str) -> str:
    """What is left over of a step, by how it ended."""
    if not left or step.state is StageState.done or step.do != "power-down":
        return left
    if step.state is StageState.failed:  # it was not reached, or it refused
        return ""
    return f"it is not known whether {', '.join(step.touched)} was powered down ({step.state}): look, and switch it on by hand"
