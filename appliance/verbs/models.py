"""The models' answers as text: versions, splits, offers, measurements; and `model bench`, which waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import click
import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.errors import ApplianceError
from appliance.screens import format as f
from appliance.screens.values import moment
from appliance.verbs import render
from appliance.verbs.context import Context

Block = Table | Text | Group
VERSION = ("model", "version", "serves", "stage", "task", "files", "size", "requests", "errors", "p50/p95 ms", "drift")
SPLIT = ("model", "active", "candidate", "mode", "percent", "requests", "errors", "p95 ms", "agreement")
OFFER = ("model", "version", "stage", "state", "changed", "note")


def _versions(rows: list[dict[str, Any]], _: int) -> list[Block]:
    table = render.table([_version(row) for row in rows], VERSION)
    ill = [f"{row['name']} {row['version']}: {row['error']} Next: {row['next_step']}" for row in rows if row["error"]]
    return [table, *([Text("\n".join(printable(line) for line in ill))] if ill else [])]


def _version(row: Mapping[str, Any]) -> dict[str, Any]:
    served, drift = row["served"], row["drift"]
    return {
        "model": row["name"], "version": row["version"], "stage": row["stage"], "task": row["task"],
        "serves": "broken" if row["error"] else "yes" if row["active"] else "before" if row["previous"] else "",
        "files": " ".join(row["kinds"]), "size": f.size(row["size"]), "requests": served["requests"],
        "errors": served["errors"], "p50/p95 ms": f"{f.ms(served['p50_ms'])}/{f.ms(served['p95_ms'])}",
        "drift": _drift(drift) if drift else "",
    }  # fmt: skip


def _drift(drift: Mapping[str, Any]) -> str:
    if drift["labels"] is None:
        held = drift["baseline"] if drift["state"] == "gathering" else drift["window"]
        return f"{drift['state']} {held}/{drift['needed']}"
    return f"{drift['state']} {max(drift['labels'], drift['scores']):.2f} of {drift['limit']:g}"


def _one(row: Mapping[str, Any], _: int) -> list[Block]:
    facts = [
        f"{printable(row['name'])} {printable(row['version'])}: {row['stage']}{', serves' if row['active'] else ''}",
        f"task {row['task']}, {f.counted(row['labels'], 'label')}, {f.size(row['size'])}, files {' '.join(row['kinds'])}",
        f"licence {printable(row['licence'])}",
        f"in {printable(row['directory'])}" + (f", added {moment(row['added'])}" if row["added"] else ""),
        *([f"from {printable(row['origin'])}"] if row["origin"] else []),
        *([f"shown: {printable(row['tested'])}"] if row["tested"] else []),
        *([f"error: {printable(row['error'])}\nnext: {printable(row['next_step'])}"] if row["error"] else []),
    ]
    served = row["served"]
    if served["requests"]:
        rate = f.NONE if served["error_rate"] is None else f"{100 * served['error_rate']:.1f} %"
        asked = f"{f.counted(served['requests'], 'request')}, {served['errors']} failed ({rate} of the newest)"
        facts.append(f"{asked}, p95 {f.ms(served['p95_ms'])} ms")
    if row["drift"]:
        most = f"; {printable(row['drift']['most'])}" if row["drift"]["most"] else ""
        facts.append(f"drift: {_drift(row['drift'])}{most}")
    return [Text("\n".join(facts))]


def _shown(rows: list[dict[str, Any]], width: int) -> list[Block]:
    return [block for row in rows for block in _one(row, width)]


def _splits(rows: list[dict[str, Any]], _: int) -> list[Block]:
    shown = [
        {
            "model": row["name"], "active": row["active"], "candidate": row["candidate"], "mode": row["mode"],
            "percent": f"{row['percent']:g}", "requests": _both(row, "requests", str), "errors": _both(row, "errors", str),
            "p95 ms": _both(row, "p95_ms", f.ms),
            "agreement": f.NONE if row["agreement"] is None else f"{100 * row['agreement']:.1f} % of {row['compared']}",
        }
        for row in rows
    ]  # fmt: skip
    told = [f"{printable(row['name'])}: {printable(row['verdict'])}" for row in rows if row["verdict"]]
    told += [f"{printable(row['name'])}: {row['skipped']} inputs were not compared: too busy" for row in rows if row["skipped"]]
    return [render.table(shown, SPLIT), *([Text("\n".join(told))] if told else [])]


def _both(row: Mapping[str, Any], name: str, form: Callable[[Any], str]) -> str:
    return f"{form(row['of_active'][name])} / {form(row['of_candidate'][name])}"


def _offers(rows: list[dict[str, Any]], _: int) -> list[Block]:
    return [render.table([{**row, "changed": moment(row["changed"])} for row in rows], OFFER)]


def _measured(value: Mapping[str, Any]) -> list[Block]:
    rows = [
        {"ms": name, **{f"p{share}": f.ms(value[f"{key}_p{share}_ms"]) for share in (50, 95, 99)}}
        for name, key in (("end to end", "total"), ("the device alone", "device"))
    ]
    where = ", ".join(f"{count} on {printable(device)}" for device, count in value["devices"].items())
    asked = f"{value['requests']} requests, {value['parallel']} at a time"
    head = f"{printable(value['model'])}: {asked}: {value['per_second']:g} a second"
    return [Text(f"{head}\n{printable(value['input'])}; {where}"), render.table(rows, ("ms", "p50", "p95", "p99"))]


def benching(found: click.Command, _: bool) -> click.Command:
    """`model bench` waits for its job, and says its figures."""

    @click.pass_obj
    def run(context: Context, /, as_json: bool, **given: Any) -> None:
        args = {name: value for name, value in given.items() if value is not None}
        job = context.client.invoke("model.bench", args)
        if not as_json:
            context.say(f"{printable(job['name'])}, job {job['job_id'][-6:]} …")
        job = context.client.invoke("job.wait", {"job_id": job["job_id"]})
        if as_json:
            context.json(job)
        elif job["result"]:
            context.say(
                "\n\n".join(render.draw(block, context.width, colour=context.colour) for block in _measured(job["result"]))
            )
        if job["state"] != "completed":
            message, _, step = (job["error"] or f"The job is {job['state']}.").partition(" Next: ")
            raise ApplianceError(message, step)

    found.callback = run
    return found


def _published(value: Mapping[str, Any], _: int) -> list[Block]:
    """Where it lies, and the offer as a message's data: in one line, to be copied as it is."""
    told = f"stored as {value['address']}\nto offer it, send a message on models.updates with this as its data:"
    return [
        Text(printable(told, keep="\n")),
        Group(Text(msgspec.json.encode(value["offer"]).decode(), no_wrap=True, overflow="ignore")),
    ]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "model.list": _versions, "model.show": _shown, "model.splits": _splits, "model.split": _splits, "model.offers": _offers,
    "model.add": _one, "model.activate": _one, "model.rollback": _one, "model.archive": _one,
    "model.publish": _published,
})  # fmt: skip
NOTHING: Mapping[str, str] = MappingProxyType({
    "model.list": "no models; `make setup` fetches some, `model add ORIGIN` adds one",
    "model.splits": "all requests go to the active versions", "model.split": "all requests go to the active versions",
    "model.offers": "nothing was offered over models.updates",
})  # fmt: skip
"""What is said of an answer with nothing in it."""
