"""The plan: what is given up, in which order, when the power goes. A document that the operator edits as TOML.

Stages begin in their order. A stage is due when one of its conditions holds, or one of a stage behind it. Its steps run one
after the other, all together for no longer than its limit; what fails is recorded, and the next one goes on.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Sequence
from typing import Any, Literal, get_args

import msgspec

from appliance.core.power.model import Phase
from appliance.errors import PlanError

Do = Literal["shed-inference", "drain-outbox", "stop-services", "power-down", "run", "halt"]
KINDS: tuple[str, ...] = get_args(Do)
ORDER = (Phase.battery, Phase.low, Phase.critical, Phase.shutdown)
"""Phases that a stage may wait for, from the least grave to the gravest."""
FINAL = frozenset({"power-down", "halt", "run"})
"""Steps that nothing undoes by itself: a stage with one of them is never begun early by an estimate."""
NEEDED = frozenset({"store", "accounts", "api", "power"})
"""Services that no plan may stop: the plan itself works with them."""
MOST_STAGES, MOST_STEPS, MOST_NAMES = 20, 20, 100
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing to do. Which of the other fields it takes depends on `do`."""

    do: Do
    keep: tuple[str, ...] = ()
    """shed-inference: sources that go on."""
    names: tuple[str, ...] = ()
    """stop-services: which."""
    node: str = ""
    """power-down: which machine, as the fleet's settings name it."""
    command: tuple[str, ...] = ()
    """run: program and arguments, here. power-down: there; `sudo -n systemctl poweroff` where it is not given."""

    @property
    def target(self) -> str:
        """What it is done to, in words."""
        told = {"stop-services": ", ".join(self.names), "power-down": self.node, "run": " ".join(self.command)}
        kept = f"but {', '.join(self.keep)}" if self.keep else ""
        return told.get(self.do, kept)


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Steps that are begun together. Of its conditions at least one is given, and any one that holds is enough."""

    name: str
    steps: tuple[Step, ...]
    phase: Phase | None = None
    """At least this grave."""
    percent_below: float | None = None
    minutes_left_below: float | None = None
    on_battery_minutes: float | None = None
    limit_seconds: float = 60.0

    @property
    def final(self) -> bool:
        """It does what nothing undoes by itself."""
        return any(step.do in FINAL for step in self.steps)

    @property
    def condition(self) -> str:
        """In words."""
        told = (
            f"the phase is {self.phase}" if self.phase is not None else "",
            f"the charge is below {self.percent_below:g} %" if self.percent_below is not None else "",
            f"less than {self.minutes_left_below:g} min are left" if self.minutes_left_below is not None else "",
            f"on battery for {self.on_battery_minutes:g} min" if self.on_battery_minutes is not None else "",
        )
        return ", or ".join(text for text in told if text)


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole plan."""

    stages: tuple[Stage, ...]
    margin_seconds: float = 60.0
    """Beside what the plan needs: below both together of the estimate it begins early."""


DEFAULT = """\
# What is given up when the power goes, in this order. Times in seconds. See docs/power.md.
margin_seconds = 60

[[stages]]
name = "shed"
phase = "low"
limit_seconds = 20
steps = [{ do = "shed-inference" }]

[[stages]]
name = "drain"
phase = "low"
limit_seconds = 120
steps = [{ do = "drain-outbox" }]

[[stages]]
name = "services"
phase = "critical"
limit_seconds = 40
steps = [{ do = "stop-services", names = ["sources", "inference", "quality"] }]

[[stages]]
name = "halt"
phase = "shutdown"
limit_seconds = 30
steps = [{ do = "halt" }]
"""
"""The default plan."""


def parse(text: str) -> Plan:
    """A plan from TOML; what it names is not looked up.

    Raises:
        PlanError: It is not TOML, or not a plan.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(
            f"The plan is not valid TOML: {error}.", "mend that line; `prime-spark power plan show` has one."
        ) from None
    _keys(document)
    try:
        plan = msgspec.convert(document, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(f"The plan does not fit: {_worded(str(error))}.", "see docs/power.md for every key.") from None
    _shape(plan)
    return plan


def _worded(fault: str) -> str:
    """What msgspec says, with the place in front."""
    what, _, where = fault.partition(" - at ")
    return f"{where.strip('`').removeprefix('$.')}: {what}" if where else what


def _keys(document: dict[str, Any]) -> None:
    """Refuse an unknown key, with the nearest one."""
    _known(document, Plan, "")
    for at, stage in enumerate(_tables(document.get("stages"))):
        _known(stage, Stage, f"stages[{at}].")
        for index, step in enumerate(_tables(stage.get("steps"))):
            _known(step, Step, f"stages[{at}].steps[{index}].")
            if isinstance(do := step.get("do"), str) and do not in KINDS:
                raise PlanError(f"stages[{at}].steps[{index}]: there is no step {do!r}.", nearest(do, KINDS, "the steps are"))


def _tables(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _known(table: dict[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    for name in table:
        if name not in kind.__struct_fields__:
            raise PlanError(f"{where}{name} is no key of a plan.", nearest(name, kind.__struct_fields__, "the keys are"))


def nearest(name: str, known: Collection[str], otherwise: str) -> str:
    """A next step: the nearest name, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"{otherwise}: {', '.join(sorted(known)) or 'none'}."


def _shape(plan: Plan) -> None:
    """Refuse what contradicts itself."""
    if not plan.stages or len(plan.stages) > MOST_STAGES:
        raise PlanError(f"A plan has 1 to {MOST_STAGES} stages, not {len(plan.stages)}.", "write each as [[stages]].")
    if not 0 <= plan.margin_seconds <= 3600:
        raise PlanError("margin_seconds must lie between 0 and 3600.", "60 is a good margin.")
    names = [stage.name for stage in plan.stages]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PlanError(f"Two stages are called {twice[0]!r}.", "give each a name of its own.")
    for stage in plan.stages:
        _stage_shape(stage)
    last = plan.stages[-1]
    for stage in plan.stages:
        halts = [index for index, step in enumerate(stage.steps) if step.do == "halt"]
        if halts and (stage is not last or halts != [len(stage.steps) - 1]):
            raise PlanError(
                f"{stage.name}: after this machine is halted nothing else is done.", "make halt the very last step."
            )


def _stage_shape(stage: Stage) -> None:
    if not NAME.fullmatch(stage.name):
        raise PlanError(f"{stage.name!r} is no name of a stage.", "use up to 31 of a-z, 0-9 and dash.")
    if not stage.condition:
        keys = "phase, percent_below, minutes_left_below, on_battery_minutes"
        raise PlanError(f"{stage.name} has no condition, so it would never begin.", f"give one of {keys}.")
    if stage.phase is not None and stage.phase not in ORDER:
        raise PlanError(f"{stage.name}: no stage begins in the phase {stage.phase}.", f"the phases are: {', '.join(ORDER)}.")
    for value, least, most, what in (
        (stage.percent_below, 0, 100, "percent_below"), (stage.minutes_left_below, 0, 1440, "minutes_left_below"),
        (stage.on_battery_minutes, 0, 1440, "on_battery_minutes"), (stage.limit_seconds, 1, 3600, "limit_seconds"),
    ):  # fmt: skip
        if value is not None and not least <= value <= most:
            raise PlanError(
                f"{stage.name}: {what} {value:g} is not from {least} to {most}.", "write a number within that range."
            )
    if not stage.steps or len(stage.steps) > MOST_STEPS:
        raise PlanError(f"{stage.name} has {len(stage.steps)} steps; 1 to {MOST_STEPS} are possible.", "see docs/power.md.")
    for step in stage.steps:
        _step_shape(stage.name, step)


TAKES = {
    "shed-inference": {"keep"}, "drain-outbox": set(), "stop-services": {"names"}, "power-down": {"node", "command"},
    "run": {"command"}, "halt": set(),
}  # fmt: skip
MUST = {"stop-services": "names", "power-down": "node", "run": "command"}


def _step_shape(stage: str, step: Step) -> None:
    for field in ("keep", "names", "node", "command"):
        value = getattr(step, field)
        if value and field not in TAKES[step.do]:
            raise PlanError(f"{stage}: {step.do} takes no {field}.", "remove it.")
        if len(value) > MOST_NAMES:
            raise PlanError(f"{stage}: {field} of {step.do} is too long.", f"give {MOST_NAMES} at most.")
    if step.do in MUST and not getattr(step, MUST[step.do]):
        raise PlanError(f"{stage}: {step.do} needs {MUST[step.do]}.", f"add {MUST[step.do]} to the step.")


def check(plan: Plan, services: Sequence[str], nodes: Sequence[str]) -> None:
    """Refuse a plan that names what is not there.

    Raises:
        PlanError: Names the stage, what is missing, and the nearest name.
    """
    for stage in plan.stages:
        for step in stage.steps:
            for name in step.names:
                if name not in services:
                    hint = nearest(name, services, "the services are")
                    raise PlanError(f"{stage.name}: there is no service {name!r}.", hint)
                if name in NEEDED:
                    raise PlanError(f"{stage.name}: {name} must run for the plan itself to work.", "leave it out.")
            if step.node and step.node not in nodes:
                known = (
                    nearest(step.node, nodes, "the machines are") if nodes else "add it as [fleet.nodes.NAME] to the settings."
                )
                raise PlanError(f"{stage.name}: there is no machine {step.node!r}.", known)
