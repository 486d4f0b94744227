"""Commands made from the registry: `noun verb`, with options from the action's JSON Schema."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from appliance.core.actions import ActionInfo
from appliance.errors import ConfirmationRequiredError
from appliance.verbs import render
from appliance.verbs.context import Context

TYPES: dict[str, click.ParamType[Any]] = {
    "integer": click.INT,
    "number": click.FLOAT,
    "boolean": click.BOOL,
    "string": click.STRING,
}


def noun_group(noun: str, actions: Iterable[ActionInfo]) -> click.Group:
    """All actions of one noun as a group."""
    group = click.Group(noun, help=f"Actions on {noun}s.")
    for action in actions:
        group.add_command(command(action))
    return group


def command(action: ActionInfo) -> click.Command:
    """One action as a command."""
    required = set(action.parameters.get("required", []))
    properties: dict[str, Any] = action.parameters.get("properties", {})
    params = [parameter(name, schema, name in required, name in action.positional) for name, schema in properties.items()]
    params.sort(key=lambda item: action.positional.index(item.name) if item.name in action.positional else -1)
    params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON."))
    if action.dangerous:
        params.append(click.Option(["--yes"], is_flag=True, help="Do not ask for confirmation."))
    verb = action.name.partition(".")[2]
    text = f"{action.summary}.\n\nNeeds the role {action.role}."
    return click.Command(
        verb, params=params, help=text, short_help=action.summary, callback=_callback(action), hidden=action.hidden
    )


def parameter(name: str, schema: dict[str, Any], required: bool, positional: bool) -> click.Parameter:
    """One parameter as an argument or an option."""
    kind = plain_schema(schema)
    listed = kind.get("type") == "array"
    kind = kind.get("items", {}) if listed else kind
    form = click.Choice(kind["enum"]) if "enum" in kind else TYPES.get(kind.get("type", "string"), click.STRING)
    if positional:
        return click.Argument([name], type=form, nargs=-1 if listed else 1, required=required, default=None)
    secret = kind.get("format") == "password"
    flag = f"--{name.replace('_', '-')}"
    default = schema.get("default")
    note = "" if secret or default in (None, "", []) else f" Default: {default}."
    return click.Option(
        [flag, name],
        type=form,
        multiple=listed,
        required=required and not secret,
        help=f"{schema.get('description', '')}.{note}",
        prompt=secret and required,
        hide_input=secret,
        confirmation_prompt=secret,
    )


def plain_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without its "or null"."""
    for choice in schema.get("anyOf", []):
        if choice.get("type") != "null":
            return dict(choice)
    return schema


def _callback(action: ActionInfo) -> Any:
    @click.pass_obj
    def run(context: Context, /, as_json: bool, yes: bool = False, **given: Any) -> None:
        args = {
            name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value not in (None, ())
        }
        if "paths" in args:
            args["paths"] = [str(Path(path).absolute()) for path in args["paths"]]
        result = confirmed(context, action.name, args, yes=yes)
        if as_json:
            context.json(result)
        else:
            columns = render.COLUMNS.get(action.name, ())
            shown = render.points(result) if action.name == "metric.history" else result
            context.say(render.as_text(shown, context.width, colour=context.colour, columns=columns))

    return run


def confirmed(context: Context, name: str, args: dict[str, Any], *, yes: bool) -> Any:
    """Invoke; where a confirmation is needed and a person is there to ask, ask."""
    try:
        return context.client.invoke(name, args, confirm=yes)
    except ConfirmationRequiredError as error:
        if context.client.local or not sys.stdin.isatty():
            raise
        if not click.confirm(error.message):
            raise
        return context.client.invoke(name, args, confirm=True)
