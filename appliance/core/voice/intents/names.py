"""Names that are there now, by what they are names of, each with the ways in which it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from appliance.core.model import AlertState, JobState
from appliance.core.state import LiveState, Section
from appliance.core.voice.intents.spoken import forms

Names = Mapping[str, tuple[tuple[str, str], ...]]
"""List → (as it is said, as it is written), …"""
NEWEST = "newest of "
"""Stands for the identifier of the newest thing of a kind."""
MOST = 300
"""Names of one list; further ones are not understood by voice."""
FEW = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90)
"""Numbers of minutes that recognition is drawn to; others are understood all the same."""
OVER = frozenset({AlertState.ok, AlertState.no_data, AlertState.resolved})
DEVICES = {
    "microphone": "microphone", "ups": "ups", "hailo": "accelerator", "accelerator": "accelerator", "camera": "camera",
    "keyboard": "keyboard", "pi camera": "picamera", "status light": "led",
}  # fmt: skip
MODES = {
    "auto": "auto", "automatic": "auto", "on grid": "on-grid", "off grid": "off-grid", "mains": "on-grid",
    "battery": "off-grid",
}  # fmt: skip
READ = (
    Section.services, Section.rules, Section.alerts, Section.channels, Section.inference, Section.sources, Section.fleet,
    Section.tasks, Section.jobs, Section.operations, Section.sessions, Section.vpn, Section.llm, Section.deployments,
    Section.streams, Section.trends, Section.voice,
)  # fmt: skip
"""Sections that names are taken from."""


def _services(values: Any) -> dict[str, Iterable[str]]:
    return {"service": [each.name for each in values]}


def _rules(values: Any) -> dict[str, Iterable[str]]:
    return {"alert_rule": [each.rule for each in values]}


def _alerts(values: Any) -> dict[str, Iterable[str]]:
    return {"alert": [each.alert_id for each in values if each.state not in OVER]}


def _channels(value: Any) -> dict[str, Iterable[str]]:
    return {"channel": [each.name for each in value.channels]}


def _inference(value: Any) -> dict[str, Iterable[str]]:
    rows = getattr(value, "models", ())
    return {"model": [each.name for each in rows], "version": [each.version for each in rows]}


def _sources(values: Any) -> dict[str, Iterable[str]]:
    return {"source": [each.name for each in values]}


def _fleet(value: Any) -> dict[str, Iterable[str]]:
    names = [each.node.name for each in value.nodes]
    facts = [each.facts for each in value.nodes if each.facts is not None]
    units = [service.name for each in value.nodes for service in each.expected]
    boxes = [box.name for each in facts for box in each.containers or ()]
    return {"node": names, "nodes": names, "unit": units, "container": boxes}


def _tasks(value: Any) -> dict[str, Iterable[str]]:
    return {
        "capability": [each.name for worker in value.workers for each in worker.capabilities],
        "worker": [each.name for each in value.workers if not each.local],
        "schedule": [each.name for each in value.schedules],
    }


def _vpn(value: Any) -> dict[str, Iterable[str]]:
    return {"peer": [each.name for each in value.peers]}


def _llm(value: Any) -> dict[str, Iterable[str]]:
    return {"endpoint": [each.name for each in value.endpoints]}


def _deployments(value: Any) -> dict[str, Iterable[str]]:
    return {"deployed": [each.name for each in value.services]}


def _streams(value: Any) -> dict[str, Iterable[str]]:
    return {"topic": [each.name for each in value.topics]}


def _trends(value: Any) -> dict[str, Iterable[str]]:
    return {"metric": list(value)}


def _sessions(values: Any) -> dict[str, Iterable[str]]:
    return {"account": [each.user for each in values]}


def _voice(value: Any) -> dict[str, Iterable[str]]:
    return {"array_parameter": list(value.array.parameters) if value.array is not None else ()}


READERS: dict[Section, Callable[[Any], dict[str, Iterable[str]]]] = {
    Section.services: _services, Section.rules: _rules, Section.alerts: _alerts, Section.channels: _channels,
    Section.inference: _inference, Section.sources: _sources, Section.fleet: _fleet, Section.tasks: _tasks, Section.vpn: _vpn,
    Section.llm: _llm, Section.deployments: _deployments, Section.streams: _streams, Section.trends: _trends,
    Section.sessions: _sessions, Section.voice: _voice,
}  # fmt: skip


def names(state: LiveState) -> Names:
    """All names as the live state has them now."""
    found: dict[str, dict[str, str]] = {}
    for section, read in READERS.items():
        value = state.get(section).value
        for kind, values in (read(value) if value is not None else {}).items():
            found.setdefault(kind, {}).update(_spoken(values))
    found.setdefault("nodes", {}).update(dict.fromkeys(("all nodes", "all machines", "the whole fleet"), "all"))
    for kind, value in newest(state).items():
        if value:  # which one it is, is looked up when it is said: the grammar need not be made anew for each
            found.setdefault(kind, {}).update({f"the {first} {kind}": NEWEST + kind for first in ("last", "newest")})
    found["device"], found["mode"] = dict(DEVICES), dict(MODES)
    found["grid"] = {"on grid": "on-grid", "off grid": "off-grid"}
    return {kind: tuple(pairs.items()) for kind, pairs in sorted(found.items())}


def _spoken(values: Iterable[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for value in list(dict.fromkeys(values))[:MOST]:
        for form in forms(value):
            said.setdefault(form, value)
    return said


def newest(state: LiveState) -> dict[str, str]:
    """Identifiers that nobody can say: of the newest of each kind, "" where there is none."""
    tasks, jobs = state.get(Section.tasks).value, state.get(Section.jobs).value or ()
    operations, sessions = state.get(Section.operations).value or (), state.get(Section.sessions).value or ()
    known = [*tasks.waiting, *tasks.running, *tasks.history] if tasks is not None else []
    task = max(known, key=lambda each: each.submitted, default=None)
    job = next((each for each in jobs if each.state in {JobState.running, JobState.pending}), next(iter(jobs), None))
    return {
        "task": task.task_id if task is not None else "",
        "job": job.job_id if job is not None else "",
        "operation": operations[0].operation_id if operations else "",
        "session": max(sessions, key=lambda each: each.since).session_id if sessions else "",
    }
