"""Actions on the power: how it is, its setting, its plan, what an outage would do, what happened."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from typing import Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.events import rfc3339
from appliance.core.figures import counted
from appliance.core.model import Role
from appliance.core.ports import Clock
from appliance.core.power.book import KeptPlan
from appliance.core.power.model import Level, Phase, PlanStatus, PowerEvent, PowerStatus, Setting, Supply
from appliance.core.power.service import PowerService
from appliance.core.power.simulate import Assumed, Simulation, simulate
from appliance.errors import ConflictError, PlanError

SHOWN = ("upses", "coming", "pi")
"""Parts of the status that its answer has as they are."""


class Mode(Params):
    """What the operator wants."""

    mode: Literal["auto", "on-grid", "off-grid"] = Field(
        description="auto: as the UPS says; on-grid: as if there were mains; off-grid: as if there were none"
    )


class PlanFile(Params):
    """A plan."""

    file: str = Field(
        max_length=200_000,
        description="The plan as TOML in Base64; on the command line: a file to read",
        json_schema_extra={"contentEncoding": "base64"},
    )


class Outage(Params):
    """Where a made-up outage begins; what is not given is taken from the UPS."""

    percent: float | None = Field(None, ge=0, le=100, description="Charge when mains goes")
    minutes: float | None = Field(None, gt=0, le=2880, description="Minutes until the charge is at nothing")


class Past(Params):
    """How many rows, and from where."""

    limit: int = Field(50, ge=1, le=1000, description="Most rows")
    before: int | None = Field(None, description="Only rows with a lower number")


def power_actions(service: PowerService, clock: Clock) -> list[Action]:
    """Status, mode, plan, simulation, history."""
    return [*_showing(service, clock), *_setting(service, clock), *_plans(service)]


def answer(now: PowerStatus, clock: Clock) -> dict[str, Any]:
    """The fields of contracts.md, section 6 (null for what is not known), and the rest of what is known."""
    known = now.supply is not Supply.unknown
    return {
        "mode": now.setting,
        "is_on_battery": now.supply is Supply.battery if known else None,
        "battery_percent": now.percent,
        "battery_state": None if now.level is Level.unknown else now.level,
        "time_remaining_minutes": None if now.runtime is None else round(now.runtime / 60, 1),
        "power_plugged": now.supply is Supply.mains if known else None,
        "edge_only_mode": now.edge_only,
        "routing_mode": now.routing,
        "timestamp": rfc3339(clock.wall()),
        "phase": now.phase, "since": now.since or None, "reason": now.reason, "mode_by": now.setting_by or None,
        "runtime_by": now.runtime_by or None, "percent_age_s": now.percent_age, "on_battery_s": now.on_battery_s,
        "grace_s": now.grace_s, "shed": now.shed, "feeds": now.feeds, "transitions": now.transitions, "untold": now.untold,
        "plan": None if now.plan is None else {"version": now.plan.version, "state": now.plan.state, "notes": now.plan.notes},
        **{name: getattr(now, name) for name in SHOWN},
    }  # fmt: skip


def brief(told: dict[str, Any]) -> str:
    """In one line, for speech and headless mode."""
    phase, percent, left = told["phase"], told["battery_percent"], told["time_remaining_minutes"]
    if phase is Phase.unknown:
        return f"on mains or not is unknown: {told['reason']}"
    charge = "" if percent is None else f", {percent:.0f} %"
    return f"{phase}{charge}" + ("" if left is None else f", {left:.0f} min left") + f" ({told['mode']})"


def _showing(service: PowerService, clock: Clock) -> list[Action]:
    async def status(_: Invocation, __: NoParams) -> dict[str, Any]:
        return answer(service.status(), clock)

    async def history(_: Invocation, params: Past) -> list[PowerEvent]:
        return await service.events(params.limit, params.before)

    async def outage(_: Invocation, params: Outage) -> Simulation:
        runner = service.runner
        assumed = assume(service.status(), service, params)
        plan, needs = runner.plan, tuple(runner.planned_needs())
        return await asyncio.to_thread(simulate, plan, needs, service.control.limits, service.control.setting, assumed)

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("power.status", "Show mains, battery, the phase and every UPS", status, brief=brief, shortcut="p"),
        query("power.simulate", "Say what an outage would do; nothing is done", outage, params=Outage, timeout=60,
              brief=lambda found: found.verdict),
        query("power.history", "Show what happened to the power, newest first", history, params=Past),
    ]  # fmt: skip


def assume(now: PowerStatus, service: PowerService, params: Outage) -> Assumed:
    """Where the outage begins. Raises ConflictError where a figure is neither known nor given."""
    percent = now.percent if params.percent is None else params.percent
    if percent is None:
        raise ConflictError("No UPS tells a charge.", "give one: prime-spark power simulate --percent 80 --minutes 30.")
    if params.minutes is not None:
        return Assumed(percent, 60 * params.minutes, _from(params.percent), "given")
    slope = service.finder.slope(service.control.combined.names)
    runtime = now.runtime if params.percent is None else None
    if runtime is None and slope:
        return Assumed(percent, percent / slope, _from(params.percent), "the present fall")
    if runtime is None and now.runtime is not None and now.percent:
        return Assumed(percent, now.runtime * percent / now.percent, _from(params.percent), "the UPS")
    if runtime is None:
        raise ConflictError("No UPS tells how long its charge lasts.", "say so: prime-spark power simulate --minutes 30.")
    return Assumed(percent, runtime, "the UPS", "the UPS" if now.runtime_by == "ups" else "the present fall")


def _from(given: float | None) -> str:
    return "the UPS" if given is None else "given"


def _setting(service: PowerService, clock: Clock) -> list[Action]:
    async def mode(call: Invocation, params: Mode) -> dict[str, Any]:
        return answer(await service.set_mode(Setting(params.mode), call.actor.name), clock)

    async def restore(call: Invocation, _: NoParams) -> dict[str, Any]:
        return answer(await service.restore(call.actor.name), clock)

    async def acknowledge(_: Invocation, __: NoParams) -> dict[str, Any]:
        return answer(await service.acknowledge(), clock)

    return [
        Action("power.mode", "Set how mains and battery are taken", mode, Mode, positional=("mode",), brief=brief),
        Action("power.restore", "Take back what the power plan did", restore, timeout=300, brief=brief),
        Action("power.acknowledge", "Forget what the last power plan left over", acknowledge, brief=brief),
    ]


def _plans(service: PowerService) -> list[Action]:
    async def show(_: Invocation, __: NoParams) -> dict[str, Any]:
        kept = service.runner.kept
        return {"status": service.status().plan, "document": kept.document, "coming": service.status().coming}

    async def versions(_: Invocation, __: NoParams) -> list[KeptPlan]:
        return await service.plans()

    async def check(_: Invocation, params: PlanFile) -> dict[str, Any]:
        plan = service.check(text_of(params.file))
        halts = any(step.do == "halt" for stage in plan.stages for step in stage.steps)
        told = [] if halts else ["this machine is not halted by it: it runs until its battery is empty"]
        told += [
            f"{stage.name}: where Kafka is away drain-outbox takes the whole limit, and what stands behind it is not done: "
            "give it a stage of its own"
            for stage in plan.stages
            if any(step.do == "drain-outbox" for step in stage.steps[:-1])
        ]
        return {"stages": [stage.name for stage in plan.stages], "warning": "; ".join(told)}

    async def put(call: Invocation, params: PlanFile) -> KeptPlan:
        return await service.set_plan(text_of(params.file), call.actor.name)

    async def abort(call: Invocation, _: NoParams) -> PlanStatus | None:
        service.runner.abort(call.actor.name)
        return service.show().plan

    async def fits(params: PlanFile) -> None:
        service.check(text_of(params.file))

    async def running(_: NoParams) -> None:
        if service.runner.run is None:
            raise ConflictError("No power plan is being carried out.", "there is nothing to abort.")

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("power.plan-show", "Show the power plan, and how far it is", show),
        query("power.plan-versions", "List the versions of the power plan, newest first", versions),
        query("power.plan-check", "Check a power plan without using it", check, params=PlanFile, positional=(),
              brief=lambda found: counted(len(found["stages"]), "stage")),
        Action("power.plan-set", "Use another power plan", put, PlanFile, role=Role.admin, dangerous=True, look_up=fits,
               confirm_text="Use this power plan from the next outage on? It says what is stopped and halted."),
        Action("power.plan-abort", "Abort the power plan that is being carried out", abort, role=Role.admin, dangerous=True,
               look_up=running, confirm_text="Abort the power plan? Nothing further is stopped or halted until mains is back: "
               "the machine may run until its battery is empty."),
    ]  # fmt: skip


def text_of(file: str) -> str:
    """The text of a plan's file. Raises PlanError."""
    try:
        return base64.b64decode(file, validate=True).decode()
    except (binascii.Error, ValueError):  # UnicodeDecodeError is one, too
        raise PlanError("The plan is no UTF-8 text.", "write it as TOML; `prime-spark power plan show` has one.") from None
