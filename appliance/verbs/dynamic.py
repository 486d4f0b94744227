"""Commands made from the registry: `noun verb`, with options from the action's JSON Schema."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from appliance.core.actions import ActionInfo
from appliance.errors import ConfirmationRequiredError, NotAuthorizedError
from appliance.verbs import (
    access,
    agents,
    analytics,
    assistant,
    backup_text,
    deploy,
    deploy_wait,
    fleet_forms,
    inference,
    llm,
    memory,
    models,
    power,
    render,
    rules,
    sources,
    streams,
    tasks,
    update,
    values,
    voice_text,
    vpn,
)
from appliance.verbs.client import Client
from appliance.verbs.context import Context
from appliance.verbs.forms import Command, Group, Switch, secret, secret_options
from appliance.verbs.nouns import about


class Number(click.types.FloatParamType):
    """A number; what is infinite or none would become "not given" on its way."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As click's, and finite."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no number that can be used; give a finite one.", param, ctx)
        return found


TYPES: dict[str, click.ParamType[Any]] = {
    "integer": click.INT,
    "number": Number(),
    "boolean": click.BOOL,
    "string": click.STRING,
}


def noun_group(noun: str, actions: Iterable[ActionInfo], client: Client) -> click.Group:
    """All actions of one noun as a group."""
    group = Group(noun, help=about(noun))
    for action in actions:
        made = command(action, client) if client.may(action) else refused(action)
        if action.name in deploy_wait.WAITED and client.may(action):
            made = deploy_wait.waiting(made, action)
        if action.name == "analytics.query":
            made = analytics.extended(made, local=client.local)
        group.add_command(values.extended(made, action, local=client.local) if client.may(action) else made)
    return group


def refused(action: ActionInfo) -> click.Command:
    """An action that the asker may not do: whatever stands behind it is not even read, and the dispatcher refuses it."""

    @click.pass_obj
    def run(context: Context, /, rest: tuple[str, ...]) -> None:
        context.client.invoke(action.name, {})
        raise NotAuthorizedError(
            f"{action.name} needs the role {action.role}.", f"log in as a user with the role {action.role}."
        )

    rest = click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)
    settings = {"ignore_unknown_options": True, "help_option_names": []}
    return Command(action.name.partition(".")[2], params=[rest], callback=run, hidden=True, context_settings=settings)


def command(action: ActionInfo, client: Client) -> click.Command:
    """One action as a command."""
    required = set(action.parameters.get("required", []))
    properties: dict[str, Any] = action.parameters.get("properties", {})
    secrets = {name: name in required for name, schema in properties.items() if is_secret(schema)}
    read = () if client.local else tuple(name for name, schema in properties.items() if is_bytes(schema))
    params = [
        file_option(name, schema) if name in read else parameter(name, schema, name in required, name in action.positional)
        for name, schema in properties.items()
        if name not in secrets
    ]
    params.sort(key=lambda item: action.positional.index(item.name) if item.name in action.positional else -1)
    for name in secrets:
        params += secret_options(name, properties[name].get("description", name), local=client.local)
    params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON."))
    if action.dangerous:
        params.append(click.Option(["--yes"], is_flag=True, help="Do not ask for confirmation."))
    text = f"{action.summary}.\n\nNeeds the role {action.role}."
    return Command(
        action.name.partition(".")[2],
        params=params,
        help=text,
        short_help=action.summary,
        callback=_callback(action, secrets, read),
        hidden=action.hidden,
    )


def is_bytes(schema: dict[str, Any]) -> bool:
    """A parameter that carries a file's bytes."""
    return "base64" in {schema.get("contentEncoding"), plain_schema(schema).get("contentEncoding")}


def file_option(name: str, schema: dict[str, Any]) -> click.Option:
    """Bytes are read here, by whoever asks: the appliance opens no file for a caller."""
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.Option([f"--{name.replace('_', '-')}", name], type=kind, help=f"{schema.get('description', name)}.")


def encoded(path: Path | None) -> str | None:
    """A file's bytes in Base64. Raises click.FileError."""
    try:
        return None if path is None else base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise click.FileError(str(path), error.strerror or str(error)) from error


def is_secret(schema: dict[str, Any]) -> bool:
    """A parameter that must not be seen."""
    return plain_schema(schema).get("format") == "password"


def parameter(name: str, schema: dict[str, Any], required: bool, positional: bool) -> click.Parameter:
    """One parameter as an argument or an option."""
    kind = plain_schema(schema)
    listed = kind.get("type") == "array"
    kind = kind.get("items", {}) if listed else kind
    form = click.Choice(kind["enum"]) if "enum" in kind else TYPES.get(kind.get("type", "string"), click.STRING)
    if positional:
        return click.Argument([name], type=form, nargs=-1 if listed else 1, required=required, default=None)
    flag = f"--{name.replace('_', '-')}"
    default = schema.get("default")
    note = "" if default in (None, "", []) else f" Default: {default}."
    told = f"{schema.get('description', '')}.{note}"
    if form is click.BOOL and not listed:
        note = "" if default is False else note  # alone it means yes: that it is not so without is understood
        told = f"{schema.get('description', '')}.{note}"
        return Switch(flag, name, required=required, help=told, metavar="" if default is False else "[yes|no]")
    return click.Option([flag, name], type=form, multiple=listed, required=required, help=told)


def plain_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without its "or null"."""
    for choice in schema.get("anyOf", []):
        if choice.get("type") != "null":
            return dict(choice)
    return schema


def _callback(action: ActionInfo, secrets: dict[str, bool], read: tuple[str, ...]) -> Any:
    @click.pass_obj
    def run(context: Context, /, as_json: bool, yes: bool = False, **given: Any) -> None:
        for name, required in secrets.items():
            given[name] = secret(context, name, given, required=required)
        for name in read:
            given[name] = encoded(given[name])
        args = {
            name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value not in (None, ())
        }
        if "paths" in args:
            args["paths"] = [str(Path(path).absolute()) for path in args["paths"]]
        if action.name == "model.add" and "://" not in str(args["origin"]):
            args["origin"] = str(Path(str(args["origin"])).expanduser().absolute())
        result = confirmed(context, action.name, args, yes=yes)
        if as_json:
            context.json(result)
        else:
            columns = render.COLUMNS.get(action.name, ())
            shown = render.points(result) if action.name == "metric.history" else result
            homes = (
                access,
                agents,
                assistant,
                backup_text,
                deploy,
                fleet_forms,
                inference,
                llm,
                memory,
                models,
                power,
                rules,
                sources,
                streams,
                tasks,
                update,
                voice_text,
                vpn,
            )
            forms = {name: form for home in homes for name, form in home.FORMS.items()}
            nothing = {**models.NOTHING, **sources.NOTHING, **tasks.NOTHING, **fleet_forms.NOTHING, **voice_text.NOTHING}
            text = render.formed(forms, action.name, result, context.width, colour=context.colour, nothing=nothing)
            text = text or analytics.as_text(action.name, result, context)
            context.say(text or render.as_text(shown, context.width, colour=context.colour, columns=columns))

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
