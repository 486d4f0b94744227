"""The power's answers as text, and `power plan VERB`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from appliance.core.model import Health
from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.verbs import render
from appliance.verbs.forms import Group

Block = Table | Text
UPS = ("name", "health", "supply", "charge", "left", "volts", "load", "age", "feeds us", "refused", "failed", "reason")
STAGE = ("stage", "state", "needs", "took", "condition", "why")
STEP = ("stage", "step", "target", "state", "detail")
EVENT = ("seq", "time", "kind", "severity", "charge", "text")
HAPPENING = ("after", "what", "charge", "left", "done", "why")
WIDE = 110
"""Columns from which all fields of a row are shown."""
PREFIX = "plan-"


def nest(group: click.Group) -> None:
    """`power plan-show` and the like are `power plan show`; `power plan` alone shows it."""
    verbs = {name.removeprefix(PREFIX): found for name, found in group.commands.items() if name.startswith(PREFIX)}
    if not verbs:
        return
    inner = Plan("plan", help="The power plan: what is given up when the power goes.", invoke_without_command=True)
    for name, command in verbs.items():
        del group.commands[PREFIX + name]
        inner.add_command(command, name)
    group.add_command(inner)


class Plan(Group):
    """Shows the plan where no verb is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; without a verb it is "show"."""
        if all(arg.startswith("-") and arg not in {"--help", "-h"} for arg in args):
            args = ["show", *args]
        return super().parse_args(ctx, args)


def minutes(seconds: float | None) -> str:
    """Seconds as people read them."""
    return f.NONE if seconds is None else f.span(round(seconds, 1))


def _status(value: dict[str, Any], width: int) -> list[Block]:
    known = {True: "battery", False: "mains", None: "unknown"}[value["is_on_battery"]]
    left = value["time_remaining_minutes"]
    head = {
        "phase": f"{value['phase']}: {value['reason']}", "since": f.clock(value["since"] or 0.0), "supply": known,
        "battery": f"{f.percent(value['battery_percent'])} {value['battery_state'] or ''}".rstrip(),
        "time left": f.NONE if left is None else f"{left:g} min, by {value['runtime_by'] or f.NONE}",
        "on battery": minutes(value["on_battery_s"]), "shutdown in": minutes(value["grace_s"]),
        "mode": value["mode"] + (f", set by {value['mode_by']}" if value["mode_by"] else ""),
        "routing": value["routing_mode"] or "as configured", "load": "shed" if value["shed"] else "not shed",
        "decided by": value["feeds"], "plan": _plan_line(value["plan"]),
    }  # fmt: skip
    blocks: list[Block] = [render.record(head, width)]
    if value["upses"]:
        blocks.append(render.table([_ups(each) for each in value["upses"]], UPS if width >= WIDE else (*UPS[:5], "reason")))
    if (pi := value["pi"]) is not None and (pi["flags"] is not None or pi["rails"] or pi["halt_wakes"] is not None):
        told = {
            "flags now": ", ".join(pi["flags"] or ()) or f.NONE,
            "since the start": ", ".join(pi["flags_since_boot"] or ()) or f.NONE,
            "input, V": pi["input_volts"],
            "wakes after a halt": pi["halt_wakes"],
            "not told": pi["reason"],
        }
        blocks.append(render.record({"Raspberry Pi": told}, width))
    return blocks


def _plan_line(plan: dict[str, Any] | None) -> str:
    if plan is None:
        return f.NONE
    left = f"; left over: {'; '.join(plan['notes'])}" if plan["notes"] else ""
    return f"{_which(plan)}, {plan['state']}{left}"


def _which(plan: Mapping[str, Any]) -> str:
    return f"version {plan['version']}" if plan["version"] else "the default plan"


def _ups(ups: Mapping[str, Any]) -> dict[str, Any]:
    reading = ups["reading"] or {}
    seen = f.since(reading.get("time", 0.0))
    if ups["health"] == Health.unhealthy:  # it does not answer: what it said last is nothing of now
        reading = {}
    volts, load = reading.get("voltage"), reading.get("power")
    return {
        "name": ups["name"] + (" SIM" if ups["simulated"] else ""), "health": ups["health"],
        "supply": reading.get("supply", f.NONE), "charge": f.percent(reading.get("percent")), "left": minutes(ups["runtime"]),
        "volts": f.NONE if volts is None else f"{volts:.2f}", "load": f.NONE if load is None else f"{load:.0f} W",
        "age": seen, "feeds us": "yes" if ups["feeds_us"] else "", "refused": ups["refused"],
        "failed": ups["failed"], "reason": ups["reason"],
    }  # fmt: skip


def _shown(value: dict[str, Any], width: int) -> list[Block]:
    status = value["status"]
    head = f"{_which(status)}, {status['state']}; needs {minutes(status['needs'])} and a margin"
    blocks: list[Block] = [Text(printable(f"{head} of {minutes(status['margin'])}"))]
    stages = [
        {
            "stage": each["name"], "state": each["state"], "needs": f"{minutes(each['needs'])} ({each['needs_by']})",
            "took": minutes(each["seconds"]), "condition": each["condition"], "why": each["why"],
        }
        for each in status["stages"]
    ]  # fmt: skip
    steps = [
        {"stage": each["name"], "step": step["do"], **{name: step[name] for name in ("target", "state", "detail")}}
        for each in status["stages"]
        for step in each["steps"]
    ]
    blocks += [render.table(stages, STAGE), render.table(steps, STEP)]
    notes = [f"problem: {status['problem']}"] if status["problem"] else []
    notes += [f"left over: {note}" for note in status["notes"]]
    if notes:
        blocks.append(Text(printable("\n".join(notes), keep="\n")))
    return [*blocks, Text(printable(value["document"].rstrip(), keep="\n"))]


def _simulated(value: dict[str, Any], _: int) -> list[Block]:
    assumed = value["assumed"]
    told = (
        f"assumed: {assumed['percent']:.0f} % ({assumed['percent_from']}), nothing left after {minutes(assumed['runtime'])} "
        f"({assumed['runtime_from']}); nothing is done"
    )
    rows = [
        {
            "after": minutes(each["at"]), "what": each["what"], "charge": f.percent(each["percent"]),
            "left": f"{each['minutes_left']:.1f} min", "done": minutes(each["done_at"]), "why": each["why"],
        }
        for each in value["happenings"]
    ]  # fmt: skip
    table: list[Block] = [render.table(rows, HAPPENING)] if rows else []
    return [Text(told), *table, Text(printable(value["verdict"]))]


def _history(events: list[dict[str, Any]], width: int) -> list[Block]:
    rows = [{**each, "charge": f.percent(each["percent"])} for each in events]
    return [render.table(rows, EVENT if width >= WIDE else ("time", "kind", "charge", "text"))]


FORMS: Mapping[str, Callable[[Any, int], list[Block]]] = MappingProxyType({
    "power.status": _status, "power.mode": _status, "power.restore": _status, "power.acknowledge": _status,
    "power.plan-show": _shown, "power.simulate": _simulated, "power.history": _history,
})  # fmt: skip
