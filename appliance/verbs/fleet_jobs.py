"""Follows a transfer to its end: progress while a terminal is there to show it, then one row for each node."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from appliance.core.printable import printable
from appliance.screens import format as f
from appliance.verbs import render
from appliance.verbs.context import Context

UNREACHABLE = 6
"""Exit code where nothing failed, and some nodes were not reached."""
EVERY = 0.3
"""Seconds between two looks."""
ENDED = frozenset({"completed", "failed", "cancelled", "interrupted"})
OUTCOME = ("node", "state", "files", "moved", "resumed", "deleted", "took", "path", "reason")


def followed(context: Context, job: dict[str, Any]) -> dict[str, Any]:
    """The job when it has ended."""
    shows = not context.client.local and sys.stderr.isatty()
    drawn = ""
    while job["state"] not in ENDED:
        if shows:
            drawn = _draw(job, drawn)
            time.sleep(EVERY)
            job = context.client.invoke("job.show", {"job_id": job["job_id"]})
        else:
            job = context.client.invoke("job.wait", {"job_id": job["job_id"]})
    if drawn:
        sys.stderr.write("\r" + " " * len(drawn) + "\r")
    return job


def _draw(job: Mapping[str, Any], before: str) -> str:
    share = "" if job["progress"] is None else f"{100 * job['progress']:3.0f} % "
    text = printable(f"{share}{job['message'] or job['state']}")[:100]
    sys.stderr.write("\r" + text.ljust(len(before)))
    sys.stderr.flush()
    return text


def told(context: Context, job: dict[str, Any], *, as_json: bool) -> int:
    """Say what a transfer came to; the exit code."""
    outcomes: list[dict[str, Any]] = job["result"] or []
    if as_json:
        context.json(outcomes or job)
    elif outcomes:
        context.say(render.draw(render.table([row(each) for each in outcomes], OUTCOME), context.width, colour=context.colour))
        notes = [f"{each['node']}: {name} was left alone: {why}" for each in outcomes for name, why in each["skipped"]]
        steps = {each["next_step"] for each in outcomes if each["next_step"]}
        if lines := [*notes, *(f"next: {step}" for step in sorted(steps))]:
            context.say(render.draw(Text(printable("\n".join(lines), keep="\n")), context.width, colour=False))
    else:
        context.say(printable(f"{job['name']}: {job['state']}{': ' + job['error'] if job['error'] else ''}"))
    return code(job, outcomes)


def code(job: Mapping[str, Any], outcomes: Sequence[Mapping[str, Any]]) -> int:
    """0 where all went well, 1 where something failed, 6 where nodes were only not reached."""
    states = {each["state"] for each in outcomes}
    if job["state"] == "completed" and states <= {"ok", "unchanged"}:
        return 0
    return UNREACHABLE if states and states <= {"ok", "unchanged", "unreachable"} and job["state"] == "failed" else 1


def row(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """One node's outcome."""
    good = outcome["state"] in {"ok", "unchanged"}
    return {
        "node": outcome["node"],
        "state": outcome["state"],
        "files": outcome["files"] if good else f.NONE,
        "moved": f.size(outcome["bytes"]) if good else f.NONE,
        "resumed": f.size(outcome["resumed"]) if outcome["resumed"] else "",
        "deleted": outcome["deleted"] or "",
        "took": f.duration(outcome["seconds"]),
        "path": outcome["path"],
        "reason": outcome["reason"],
    }
