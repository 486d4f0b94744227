"""Commands on many nodes, made from actions: nodes are selected by options, and what is begun is followed to its end."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from appliance.core.actions import ActionInfo
from appliance.errors import InvalidArgumentsError
from appliance.verbs import render
from appliance.verbs.context import Context
from appliance.verbs.fleet_follow import FORMS, Follower, code, summary
from appliance.verbs.fleet_select import needed, selection, selector
from appliance.verbs.forms import Command

FOLLOWED = ("fleet.apply", "fleet.operation-undo")
CHOSEN = ("node", "group", "tag", "all_nodes")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def on_nodes(command: click.Command, action: ActionInfo) -> click.Command:
    """A command that takes nodes, with options to select them; what it begins is followed."""
    params = [param for param in command.params if param.name not in {"nodes", "wait_seconds"}]
    listed = "nodes" in action.positional
    own: list[click.Parameter] = [click.Argument(["names"], nargs=-1, metavar="[NODES]...")] if listed else []
    if action.name == "fleet.run":
        params = [click.Argument(["command"], nargs=-1, required=True)] + [each for each in params if each.name != "command"]
    made = Command(
        command.name, params=[*own, *params], help=command.help, short_help=command.short_help, hidden=command.hidden,
        callback=_callback(action),
    )  # fmt: skip
    selected: click.Command = selection(made)
    if not action.query:
        selected.params += _following()
    return selected


def _following() -> list[click.Parameter]:
    path = click.Path(file_okay=False, path_type=Path)
    return [
        click.Option(["--detach"], is_flag=True, help="Begin it, and do not wait for its end."),
        click.Option(["--save"], type=path, metavar="DIR", help="Write each node's output into DIR/NODE.txt."),
    ]


def followed(command: click.Command, action: ActionInfo) -> click.Command:
    """A command on an operation that is followed to its end."""
    command.params = [param for param in command.params if param.name != "wait_seconds"] + _following()
    command.callback = _callback(action)
    return command


def _callback(action: ActionInfo) -> Any:
    @click.pass_obj
    def run(context: Context, /, as_json: bool, yes: bool = False, **given: Any) -> int:
        detach, save = given.pop("detach", False), given.pop("save", None)
        args = arguments(action, given)
        if context.client.local and (args.get("follow") or save is not None):
            raise InvalidArgumentsError("--follow and --save are for a terminal of this machine.", "leave them out.")
        _prepared(save)
        return carried(context, action, args, yes=yes, as_json=as_json, detach=detach, save=save)

    return run


def _prepared(save: Path | None) -> None:
    """A folder that can be written into, before anything is begun. Raises click.FileError."""
    if save is None:
        return
    try:
        save.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.FileError(str(save), error.strerror or str(error)) from error
    if not os.access(save, os.W_OK | os.X_OK):
        raise click.FileError(str(save), "nothing can be written there")


def arguments(action: ActionInfo, given: dict[str, Any]) -> dict[str, Any]:
    """What the action is given. Raises InvalidArgumentsError."""
    if "nodes" in action.parameters.get("properties", {}):
        found = selector(*(given.pop(name, ()) for name in CHOSEN))
        found = [*given.pop("names", ()), *found]
        given["nodes"] = found if "nodes" not in action.parameters.get("required", ()) else needed(found)
    if action.name == "fleet.run":
        given["command"] = " ".join(given["command"])
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value not in (None, (), [])
    }


def carried(
    context: Context, action: ActionInfo, args: dict[str, Any], *, yes: bool, as_json: bool, detach: bool = False,
    save: Path | None = None,
) -> int:  # fmt: skip
    """Invoke, follow what was begun, say what it came to; the exit code."""
    from appliance.verbs.dynamic import confirmed

    answer = confirmed(context, action.name, args, yes=yes)
    if not isinstance(answer, Mapping) or "runs" not in answer or "operation_id" not in answer:
        return _shown(context, action, answer, as_json=as_json)
    follower = Follower(context, dict(answer), live=not as_json, save=save)
    status = dict(answer) if detach else follower.to_its_end()
    if as_json:
        context.json({**status, "output": {node: "".join(texts) for node, texts in follower.texts.items()}})
    else:
        text = [render.draw(block, context.width, colour=context.colour) for block in summary(status, context.width)]
        context.say("\n".join(text))
    return 0 if detach else code(status, back=action.name == "fleet.operation-undo")


def _shown(context: Context, action: ActionInfo, answer: Any, *, as_json: bool) -> int:
    from appliance.verbs.fleet_forms import FORMS as ALL

    if as_json:
        context.json(answer)
    else:
        forms = {**ALL, **FORMS}
        text = render.formed(forms, action.name, answer, context.width, colour=context.colour)
        context.say(text or render.as_text(answer, context.width, colour=context.colour))
    bad = [each for each in answer if isinstance(each, dict) and each.get("error")] if isinstance(answer, list) else []
    return 1 if bad else 0
