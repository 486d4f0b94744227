"""Deployments as text: services, replicas, rollouts with their traffic, plans, history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.verbs import render

Block = Table | Text
SERVICES = ("name", "health", "version", "ready", "strategy", "rate", "listens", "reason")
REPLICAS = ("node", "port", "version", "state", "health", "share", "open", "check", "flaps", "reason")
TRAFFIC = ("version", "revision", "wanted", "measured", "rate", "requests", "errors")
VERSIONS = ("revision", "label", "time", "author", "outcome")
ROLLOUTS = ("created", "owner", "from", "to", "strategy", "stage", "took", "reason")
EVENTS = ("time", "kind", "severity", "text")


def _text(*lines: str) -> Text:
    return Text(printable("\n".join(line for line in lines if line), keep="\n"))


def _status(value: dict[str, Any], _: int) -> list[Block]:
    services = value["services"]
    balancer = value["balancer"]
    told = f"balancer: {balancer['health']}, {balancer['reason']}" if balancer else ""
    step = f"next: {balancer['next_step']}" if balancer and balancer["next_step"] else ""
    if not services:
        return [
            _text(
                "no service is deployed", "next: prime-spark deploy apply --file SERVICE.toml; see docs/deploy.md", told, step
            )
        ]
    if len(services) == 1:
        return [*_service(services[0]), _text(told, step)]
    return [render.table([_row(each) for each in services], SERVICES), _text(told, step)]


def _row(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": each["name"], "health": each["health"], "version": each["label"] or f.NONE,
        "ready": f"{each['ready']}/{each['wanted']}", "strategy": each["strategy"],
        "rate": rate(each["rate"]), "listens": each["listen"] or f.NONE, "reason": each["reason"],
    }  # fmt: skip


def rate(value: float | None) -> str:
    """Requests a second."""
    return f.NONE if value is None else f"{value:.1f}/s"


def _service(each: dict[str, Any]) -> list[Block]:
    head = f"{each['name']}  {each['health']}  version {each['label'] or f.NONE} (revision {each['revision'] or f.NONE})"
    facts = f"{each['ready']} of {each['wanted']} replicas ready, {each['kind']}, {each['strategy']}"
    listens = f"listens on {each['listen']}, {rate(each['rate'])}" if each["listen"] else "no balancer"
    next_ = f"next: {each['next_step']}" if each["next_step"] else ""
    blocks: list[Block] = [_text(head, f"{facts}, {listens}", each["reason"], next_)]
    if each["replicas"]:
        blocks.append(render.table([_replica(row) for row in each["replicas"]], REPLICAS))
    if each["rollout"] is not None:
        blocks += _rollout(each["rollout"])
    if each["scaling"] is not None:
        blocks.append(_scaling(each["scaling"]))
    return blocks


def _replica(row: dict[str, Any]) -> dict[str, Any]:
    kept = row["replica"]
    return {
        "node": kept["node"], "port": kept["port"], "version": kept["label"], "state": kept["state"],
        "health": row["fitness"] if kept["state"] == "running" else f.NONE,
        "share": f.percent(row["share"]), "open": f.NONE if row["sessions"] is None else row["sessions"],
        "check": f.milliseconds(row["check_ms"]), "flaps": row["flaps"], "reason": row["reason"],
    }  # fmt: skip


def _rollout(value: dict[str, Any]) -> list[Block]:
    kept = value["rollout"]
    before = f"from {value['from_label']} " if value["from_label"] else ""
    wait = f", next step in {f.duration(value['wait_s'])}" if value["wait_s"] is not None else ""
    held = f", paused by {kept['paused_by']}" if kept["paused_by"] else ""
    lines = [
        f"rollout {before}to {value['to_label']} by {kept['owner']}, {kept['strategy']}: {kept['stage']}{wait}{held}",
        f"   {value['ready']} of {value['wanted']} new replicas ready; {kept['reason']}",
        f"   went on after {kept['resumed']} restarts of the appliance" if kept["resumed"] else "",
    ]
    blocks: list[Block] = [_text(*lines)]
    if value["traffic"]:
        rows = [
            {
                "version": each["label"], "revision": each["revision"], "wanted": f.percent(each["wanted"]),
                "measured": f.percent(each["measured"]), "rate": rate(each["rate"]), "requests": each["requests"],
                "errors": each["errors"],
            }
            for each in value["traffic"]
        ]  # fmt: skip
        blocks.append(render.table(rows, TRAFFIC))
    return blocks


def _scaling(value: dict[str, Any]) -> Text:
    read = ", ".join(f"{name} {f.NONE if each is None else f'{each:.4g}'}" for name, each in value["readings"].items())
    held = f"; cooldown {f.duration(value['held_s'])}" if value["held_s"] else ""
    return _text(
        f"scales itself: {value['wanted']} of {value['least']} to {value['most']}, {value['reason']}{held}", f"   {read}"
    )


def _planned(value: dict[str, Any], _: int) -> list[Block]:
    if value["unchanged"]:
        return [_text(f"{value['service']} {value['version']} is deployed so already: nothing would be done")]
    before = f", in place of {value['from_version']}" if value["from_version"] else ""
    lines = [f"{value['service']} {value['version']}{before}: {value['replicas']} replicas, {value['strategy']}"]
    lines += [f"{number}. {step}" for number, step in enumerate(value["steps"], 1)]
    lines += [f"they would go to: {', '.join(value['places']) or 'nowhere: no node answers'}"]
    lines += [f"note: {each}" for each in value["warnings"]]
    return [_text(*lines), *([_text(value["diff"])] if value["diff"] else [])]


def _applied(value: dict[str, Any], _: int) -> list[Block]:
    if not value["changed"]:
        return [_text(value["reason"])]
    name = value["rollout"]["service"]
    return [_text(f"{name}: {value['reason']}, {value['rollout']['strategy']}", f"next: prime-spark deploy status {name}")]


def _back(value: dict[str, Any], _: int) -> list[Block]:
    told = f"{value['service']}: {value['stage']}, revision {value['to_revision']}"
    return [_text(told, value["reason"], f"next: prime-spark deploy status {value['service']}")]


def _history(value: dict[str, Any], _: int) -> list[Block]:
    blocks: list[Block] = []
    if value["versions"]:
        blocks.append(render.table(value["versions"], VERSIONS))
    rows = [
        {
            **each, "from": each["from_revision"] or f.NONE, "to": each["to_revision"],
            "took": f.NONE if each["ended"] is None else f.duration(each["ended"] - each["created"]),
        }
        for each in value["rollouts"]
    ]  # fmt: skip
    if rows:
        blocks.append(render.table(rows, ROLLOUTS))
    blocks.append(render.table(value["events"], EVENTS) if value["events"] else _text("nothing happened yet"))
    return blocks


def _endpoints(value: dict[str, Any], _: int) -> list[Block]:
    front = (
        f"{value['service']} through the balancer: {value['front']}" if value["front"] else f"{value['service']}: no balancer"
    )
    if not value["endpoints"]:
        return [_text(front, "no replica answers now")]
    return [_text(front), render.table(value["endpoints"], ("address", "port", "node", "label", "healthy_s"))]


FORMS: Mapping[str, Callable[[Any, int], list[Block]]] = MappingProxyType({
    "deploy.status": _status, "deploy.plan": _planned, "deploy.apply": _applied, "deploy.history": _history,
    "deploy.endpoints": _endpoints, "deploy.rollback": _back, "deploy.pause": _back, "deploy.resume": _back,
})  # fmt: skip
