"""`deploy apply --wait` and `deploy rollback --wait`: what happens in a rollout as it comes, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from appliance.core.actions import ActionInfo
from appliance.core.printable import printable
from appliance.errors import NotRunningError
from appliance.screens import format as f
from appliance.verbs.context import Context

EVERY = 0.5
"""Seconds between two looks."""
AWAY = 60.0
"""Seconds for which an appliance that is started anew is waited for."""
ENDED = frozenset({"completed", "rolled back", "failed"})
WAITED = frozenset({"deploy.apply", "deploy.rollback"})
PAST = 500
"""Rows of the past that are looked through for a rollout that is not the newest any more."""


def waiting(command: click.Command, action: ActionInfo) -> click.Command:
    """The command with --wait."""
    at_once = command.callback

    @click.pass_obj
    def run(context: Context, /, wait: bool, **given: Any) -> Any:
        if not wait:
            return at_once(**given) if at_once is not None else None
        return _carried(context, action.name, given)

    told = (
        "Wait for the end of the rollout, and tell what happens; the exit status is 1 where it did not come to what was asked."
    )
    command.params.append(click.Option(["--wait"], is_flag=True, help=told))
    command.callback = run
    return command


def _carried(context: Context, name: str, given: dict[str, Any]) -> int:
    from appliance.verbs.dynamic import confirmed, encoded

    as_json, yes = given.pop("as_json"), given.pop("yes", False)
    args = {key: value for key, value in given.items() if value is not None}
    if isinstance(args.get("file"), Path):
        args["file"] = encoded(args["file"])
    answer = confirmed(context, name, args, yes=yes)
    begun = answer if name == "deploy.rollback" else answer["rollout"]
    if begun is None:
        context.json(answer) if as_json else context.say(answer["reason"])
        return 0
    follower = Follower(context, begun, live=not as_json)
    rollout = follower.to_its_end()
    if as_json:
        context.json({"rollout": rollout, "traffic": follower.traffic})
    else:
        context.say(summary(rollout, follower.traffic))
    wanted = "rolled back" if begun["stage"] == "rolling back" else "completed"
    return 0 if rollout["stage"] == wanted else 1


class Follower:
    """One rollout on the command line.

    Args:
        context: The command line.
        rollout: As it was begun.
        live: What happens is printed as it comes.
    """

    def __init__(self, context: Context, rollout: Mapping[str, Any], *, live: bool) -> None:
        self._context = context
        self._rollout = dict(rollout)
        self._live = live
        self._seen = 0
        self.traffic: list[dict[str, Any]] = []
        """Of each version, as it was counted last."""

    def to_its_end(self) -> dict[str, Any]:
        """Wait for it; Ctrl-C leaves it to go on."""
        name, answered = self._rollout["service"], time.monotonic()
        try:
            while True:
                try:
                    self._look(name)
                    answered = time.monotonic()
                except NotRunningError:
                    if time.monotonic() - answered > AWAY:
                        raise
                if self._rollout["stage"] in ENDED:
                    return self._rollout
                time.sleep(EVERY)
        except KeyboardInterrupt:
            click.echo(f"it goes on: prime-spark deploy status {name}", err=True)
            raise

    def _look(self, name: str) -> None:
        mine, client = self._rollout["rollout_id"], self._context.client
        (service,) = client.invoke("deploy.status", {"name": name})["services"]
        now = service["rollout"]
        if now is not None and now["rollout"]["rollout_id"] == mine:
            self._rollout = now["rollout"]
            self.traffic = now["traffic"] or self.traffic
        else:  # another one was begun since
            past = client.invoke("deploy.history", {"name": name, "limit": PAST})["rollouts"]
            self._rollout = next((each for each in past if each["rollout_id"] == mine), self._rollout)
        if self._live:
            self._tell(service["events"])

    def _tell(self, events: list[dict[str, Any]]) -> None:
        for each in reversed(events):
            if each["seq"] > self._seen and each["time"] >= self._rollout["created"] - 1:
                line = printable(f"{f.clock(each['time'])}  {each['kind']:<8}  {each['text']}")
                colour = {"warning": "yellow", "error": "red"}.get(each["severity"])
                shown = click.style(line, fg=colour) if self._context.colour and colour else line
                click.echo(shown, file=self._context.out, color=self._context.colour)
            self._seen = max(self._seen, each["seq"])


def summary(rollout: Mapping[str, Any], traffic: list[dict[str, Any]]) -> str:
    """How it ended, and who answered meanwhile."""
    took = "" if rollout["ended"] is None else f" after {f.duration(max(0.0, rollout['ended'] - rollout['created']))}"
    lines = [f"{rollout['service']}: {rollout['stage']}{took}: {rollout['reason']}"]
    for each in traffic:
        counts = f"{f.counted(each['requests'], 'request')}, {f.counted(each['errors'], 'error')}"
        lines += [f"  version {each['label']}: {counts}"]
    if rollout["stage"] not in {"completed", "rolled back"}:
        lines.append(f"next: prime-spark deploy history {rollout['service']}")
    return printable("\n".join(lines), keep="\n")
