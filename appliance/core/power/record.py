"""How far the plan is carried out, in memory and on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from appliance.core.power.book import PowerBook, Run
from appliance.core.power.model import StageState, StageStatus, StepStatus
from appliance.errors import StoreError

log = logging.getLogger(__name__)

SAVING = 2.0
"""Seconds that the disk may take to note how far the run is; the plan does not wait longer for it."""
TAKEN = frozenset({StageState.done, StageState.failed, StageState.overdue, StageState.cut})
"""States of a step that changed something, or may have."""
AFRESH = frozenset({"shed-inference", "drain-outbox", "stop-services", "halt"})
"""Steps that are taken again after the appliance was restarted in the midst of a run; the others were done, and stay done."""

UNSURE = "the appliance ended in its midst: it is not known whether it came about"


class Record:
    """The run, if there is one.

    Args:
        book: Keeps it.
        changed: Called when it is another one.
    """

    def __init__(self, book: PowerBook, changed: Callable[[], None]) -> None:
        self.run: Run | None = None
        self.dirty = False
        """It is not on disk as it is."""
        self.unsaved = ""
        """Why not."""
        self._book = book
        self._changed = changed

    @property
    def stages(self) -> tuple[StageStatus, ...]:
        """All of them; none without a run."""
        return self.run.stages if self.run is not None else ()

    def position(self) -> int:
        """The first stage that was not begun."""
        return next((at for at, stage in enumerate(self.stages) if stage.state is StageState.waiting), len(self.stages))

    def change(self, **changes: Any) -> None:
        """Other values of the run."""
        if self.run is not None:
            self.run = msgspec.structs.replace(self.run, **changes)
            self.dirty = True
            self._changed()

    def stage(self, at: int, **changes: Any) -> None:
        """Other values of a stage."""
        stages = list(self.stages)
        if at < len(stages):
            stages[at] = msgspec.structs.replace(stages[at], **changes)
            self.change(stages=tuple(stages))

    def steps(self, at: int) -> tuple[StepStatus, ...]:
        """Of a stage."""
        return self.stages[at].steps if at < len(self.stages) else ()

    def step(self, at: int, index: int, **changes: Any) -> None:
        """Other values of a step."""
        steps = list(self.steps(at))
        if index < len(steps):
            steps[index] = msgspec.structs.replace(steps[index], **changes)
            self.stage(at, steps=tuple(steps))

    def outcome(self, at: int) -> StageState:
        """What a stage came to whose steps have all been taken."""
        states = {step.state for step in self.steps(at)}
        if states & {StageState.failed, StageState.cut}:
            return StageState.failed
        return StageState.skipped if states == {StageState.skipped} else StageState.done

    def leave(self, at: int, state: StageState, detail: str) -> StageState:
        """The step under way was left; returns `state`."""
        for index, step in enumerate(self.steps(at)):
            if step.state is StageState.running:
                self.step(at, index, state=state, detail=detail)
                if step.do == "halt":
                    self.change(halted=False)
        return state

    def told(self, at: int) -> str:
        """What a stage came to, in words."""
        if at >= len(self.stages):
            return ""
        stage = self.stages[at]
        wrong = [step for step in stage.steps if step.state not in {StageState.done, StageState.waiting}]
        details = "; ".join(f"{step.do} {step.target}".strip() + f" {step.state}: {step.detail}" for step in wrong)
        return f"{stage.name}: {stage.state} after {stage.seconds or 0:.1f} s" + (f" ({details})" if details else "")

    async def save(self) -> None:
        """Write down how far it is."""
        self.dirty = False
        await self.bounded(self._book.keep_run(self.run))

    async def bounded(self, work: Awaitable[None]) -> None:
        """Write something; a disk that is full or hangs does not hold the plan."""
        try:
            async with asyncio.timeout(SAVING):
                await work
            self.unsaved = ""
        except (StoreError, TimeoutError) as error:
            self.unsaved = f"how far the plan is, is not on disk: {str(error) or 'no answer'}"
            log.error("%s", self.unsaved)


def afresh(stage: StageStatus) -> StageStatus:
    """A stage as the next life of the appliance takes it up: what only the life before knew of is to be done again."""
    steps = tuple(
        msgspec.structs.replace(step, state=StageState.cut, detail=UNSURE) if step.state is StageState.running else step
        for step in stage.steps
    )
    again = any(step.do in AFRESH for step in stage.steps) or stage.state in {StageState.running, StageState.cut}
    begun = stage.state not in {StageState.waiting, StageState.reversed}
    state = StageState.waiting if begun and again else stage.state
    return msgspec.structs.replace(stage, steps=steps, state=state)
