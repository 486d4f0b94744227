"""The fleet's state and facts as text: the columns of the Fleet page, with the same signs for what is stale."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from appliance.core.agents.model import Agent
from appliance.core.printable import printable
from appliance.screens import agents_text
from appliance.screens import format as f
from appliance.verbs import render

NODES = (
    "node",
    "role",
    "health",
    "link",
    "cpu%",
    "mem%",
    "dsk%",
    "°C",
    "svc",
    "upd",
    "kernel",
    "agent",
    "ms",
    "age",
    "facts",
    "address",
)
NARROW = ("node", "health", "link", "cpu%", "mem%", "dsk%", "°C", "svc", "age")
OLD, OLD_FACTS = 25.0, 660.0
"""Seconds after which numbers, and facts, are stale: as on the page."""
SIGN = "~"
"""Before a value that is stale, and before its age."""
WIDE = 120
"""Columns from which all of them are shown."""
LISTS = ("units", "containers")
"""Facts with many rows each: `--json` has them; as text they are counted."""


def status(value: Mapping[str, Any], width: int) -> list[Table | Text]:
    """Every machine; below, what is wrong with some."""
    rows = value["nodes"]
    if not rows:
        return [Text("no machine is in the inventory; next: prime-spark fleet add NAME --host ADDRESS")]
    blocks: list[Table | Text] = [render.table([_row(each) for each in rows], NODES if width >= WIDE else NARROW)]
    lines = [line for each in rows for line in _trouble(each)]
    return [*blocks, Text(printable("\n".join(lines), keep="\n"))] if lines else blocks


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    old = row["link"] != "up" or (row["metrics_age_s"] or 0.0) > OLD
    aged = row["link"] != "up" or (row["facts_age_s"] or 0.0) > OLD_FACTS
    return {
        "node": row["node"] + (" *" if row["busy"] else ""),
        "role": row["role"] or f.NONE,
        "health": row["health"],
        "link": row["link"],
        "cpu%": _number(row["cpu"], old=old),
        "mem%": _number(row["memory"], old=old),
        "dsk%": _number(row["disk"], old=old),
        "°C": _number(row["temperature_c"], old=old),
        "svc": _services(row, old=aged),
        "upd": _number(row["updates"], old=aged),
        "kernel": f.NONE if row["kernel"] is None else f"{SIGN if aged else ''}{row['kernel']}",
        "agent": _agent(row),
        "ms": _latency(row["latency_ms"]),
        "age": _age(row["metrics_age_s"], old=old),
        "facts": _age(row["facts_age_s"], old=aged),
        "address": row["address"] or f.NONE,
    }


def _agent(row: Mapping[str, Any]) -> str:
    found = row.get("agent")
    return f.NONE if found is None else agents_text.short(msgspec.convert({"node": row["node"], **found}, Agent))


def _number(value: float | None, *, old: bool) -> str:
    return f.NONE if value is None else f"{SIGN if old else ''}{value:.0f}"


def _latency(value: float | None) -> str:
    return f.NONE if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _age(seconds: float | None, *, old: bool) -> str:
    """How old something is: "12s", "3m", "2h", "5d"."""
    if seconds is None:
        return f.NONE
    whole = max(0, int(seconds))
    told = next((f"{whole // unit}{name[0]}" for unit, name in f.UNITS if whole >= unit), "0s")
    return f"{SIGN if old else ''}{told}"


def _services(row: Mapping[str, Any], *, old: bool) -> str:
    total, known = len(row["services"]), row["services_known"]
    if not total or not known:
        return f"?/{total}" if total else f.NONE
    return f"{SIGN if old else ''}{row['services_ok']}/{total}{'?' if known < total else ''}"


def _trouble(row: Mapping[str, Any]) -> list[str]:
    return [*_ill(row), *_ill_agent(row)]


def _ill_agent(row: Mapping[str, Any]) -> list[str]:
    found = row.get("agent")
    if found is None or not agents_text.ill(msgspec.convert({"node": row["node"], **found}, Agent)):
        return []
    return [f"{row['node']}, its agent: {found['reason']}." + (f" Next: {found['next_step']}" if found["next_step"] else "")]


def _ill(row: Mapping[str, Any]) -> list[str]:
    if row["link"] == "off":
        return []
    why = row["reason"] or row["link_reason"]
    if not why or (row["health"] == "healthy" and row["link"] == "up"):
        return []
    return [f"{row['node']}: {why.rstrip('.')}." + (f" Next: {row['next_step']}" if row["next_step"] else "")]


def facts(nodes: list[dict[str, Any]], width: int) -> list[Table | Text]:
    """What machines tell of themselves, one block each; long lists as numbers."""
    blocks: list[Table | Text] = []
    for each in nodes:
        age = "never read" if each["age_s"] is None else f"{f.duration(each['age_s'])} ago"
        told = {
            name: found for name, found in each.items() if name not in {"node", "age_s", "took_ms", *LISTS} and _known(found)
        }
        if (units := each.get("units")) is not None:
            failed = [unit["name"] for unit in units if unit["active"] == "failed"]
            told["units"] = f"{len(units)}" + (f", failed: {', '.join(failed)}" if failed else "")
        if (found := each.get("containers")) is not None:
            told["containers"] = ", ".join(f"{one['name']} {one['state']}" for one in found) or "none"
        told = {name: ", ".join(map(str, found)) if isinstance(found, list) else found for name, found in told.items()}
        blocks += [Text(printable(f"{each['node']} ({age})"), style="bold"), render.record(told, width)]
    return blocks


def _known(value: Any) -> bool:
    return value not in (None, {}, [])


FORMS: Mapping[str, render.Form] = MappingProxyType({"fleet.status": status, "fleet.refresh": status, "fleet.facts": facts})
