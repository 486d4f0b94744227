"""`agent install`, `upgrade`, `remove`, `list`: the agents on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from appliance.core.clock import monotonic
from appliance.core.printable import printable
from appliance.errors import ApplianceError, NotRunningError
from appliance.screens import format as f
from appliance.verbs import render
from appliance.verbs.client import Client

KNOWN = ("install", "list", "remove", "upgrade")
"""Verbs of an appliance that runs, for the help where none does."""
COLUMNS = ("node", "state", "installed", "running", "tasks", "load", "heard", "offers")


def names(client: Client) -> list[str]:
    """The verbs that there are."""
    try:
        return sorted(each.name.partition(".")[2] for each in client.actions() if each.name.startswith("agent."))
    except ApplianceError:
        return list(KNOWN)


def command(client: Client, name: str) -> click.Command | None:
    """One verb. Raises NotRunningError where no appliance runs here."""
    from appliance.verbs.dynamic import noun_group

    try:
        mine = [each for each in client.actions() if each.name.startswith("agent.")]
    except NotRunningError:
        if name in KNOWN:
            raise
        return None
    group = noun_group("agent", mine, client)
    nest(group, client)
    return group.commands.get(name)


def nest(group: click.Group, client: Client) -> None:
    """Have what begins an operation select nodes, and follow it."""
    from appliance.verbs import fleet_run

    known = {action.name: action for action in client.actions()}
    for name, made in list(group.commands.items()):
        action = known.get(f"agent.{name}")
        if action is not None and client.may(action) and "nodes" in action.parameters.get("properties", {}):
            group.add_command(fleet_run.on_nodes(made, action))


def listed(value: Mapping[str, Any], _: int) -> list[Table | Text]:
    """One row for each machine; below, what is wrong with some."""
    rows = value["agents"]
    if not rows:
        return [Text("no machine is in the fleet; next: prime-spark fleet add NAME --host ADDRESS")]
    lines = [_wrong(each) for each in rows if each["reason"]]
    blocks: list[Table | Text] = [render.table([_row(each) for each in rows], COLUMNS)]
    return [*blocks, Text(printable("\n".join(lines), keep="\n"))] if lines else blocks


def _row(each: Mapping[str, Any]) -> dict[str, Any]:
    busy = f.NONE if each["busy"] is None else f"{each['busy']}/{each['limit'] or f.NONE}"
    return {
        "node": each["node"] or f"({each['worker']})", "state": each["state"],
        "installed": (each["installed"] or f.NONE) + (" (old)" if each["outdated"] else ""),
        "running": each["version"] or f.NONE, "tasks": busy,
        "load": f.NONE if each["load"] is None else f"{each['load']:.2f}", "heard": _heard(each),
        "offers": ", ".join(each["capabilities"]) or f.NONE,
    }  # fmt: skip


def _wrong(each: Mapping[str, Any]) -> str:
    told = f"{each['node'] or each['worker']}: {each['reason'].rstrip('.')}."
    return told + (f" Next: {each['next_step']}" if each["next_step"] else "")


def _heard(each: Mapping[str, Any]) -> str:
    """How long ago it gave its last sign of life: the age of tasks and load."""
    if each["beat"] is None:
        return "here" if each["state"] == "ready" else f.NONE
    return f.duration(max(0.0, monotonic() - each["beat"]))


FORMS: Mapping[str, render.Form] = MappingProxyType({"agent.list": listed})
