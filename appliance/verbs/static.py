"""The verbs that are more than one action, or work without a running appliance."""

from __future__ import annotations

import asyncio
import functools
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import click
import msgspec

from appliance import config
from appliance.core.figures import counted
from appliance.core.secrets import Secrets
from appliance.errors import ApplianceError, NotFoundError, NotRunningError
from appliance.paths import Paths
from appliance.verbs import inference, render
from appliance.verbs.context import Context, json_option, pass_context
from appliance.verbs.forms import Command, Group


@click.command("status", cls=Command)
@json_option
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show everything at a glance, as Overview does."""
    found = context.client.invoke("appliance.status", {})
    if as_json:
        context.json(found)
    else:
        context.say(render.status(found, context.width, colour=context.colour, forms={"inference": inference.glance}))


@click.command("services", cls=Command)
@json_option
@pass_context
def services(context: Context, as_json: bool) -> None:
    """List services with health and reason."""
    _listed(context, "service.list", as_json)


def _listed(context: Context, name: str, as_json: bool) -> None:
    found = context.client.invoke(name, {})
    if as_json:
        context.json(found)
    else:
        context.say(render.as_text(found, context.width, colour=context.colour, columns=render.COLUMNS[name]))


@click.command("actions", cls=Command)
@json_option
@pass_context
def actions(context: Context, as_json: bool) -> None:
    """List every action that can be invoked."""
    found = [msgspec.to_builtins(action) for action in context.client.actions()]
    if as_json:
        context.json(found)
    else:
        context.say(render.as_text(found, context.width, colour=context.colour, columns=render.COLUMNS["actions"]))


@click.group("config", cls=Group)
def settings() -> None:
    """Settings: show, check, init, set."""


@settings.command("show", cls=Command)
@json_option
@pass_context
def config_show(context: Context, as_json: bool) -> None:
    """Show every setting, its value and where that comes from."""
    try:
        rows = context.client.invoke("config.list", {})
    except NotRunningError:
        from appliance import configfile

        rows = configfile.rows(config.load(context.paths, context.environ), context.paths, context.environ)
    if as_json:
        context.json(rows)
    else:
        context.say(render.as_text(rows, context.width, colour=context.colour, columns=render.COLUMNS["config.list"]))


@settings.command("check", cls=Command)
@json_option
@pass_context
def config_check(context: Context, as_json: bool) -> None:
    """Check the configuration file and the environment."""
    config.load(context.paths, context.environ)
    unread = config.unread_variables(context.environ)
    if as_json:
        context.json(
            {
                "valid": True,
                "file": str(context.paths.config),
                "exists": context.paths.config.exists(),
                "unread_variables": unread,
            }
        )
        return
    there = "valid" if context.paths.config.exists() else "not there: every setting stands at its default"
    context.say(f"{context.paths.config}: {there}")
    for name in unread:
        context.say(f"{name} is set, but nothing in this version reads it")


@settings.command("init", cls=Command)
@json_option
@pass_context
def config_init(context: Context, as_json: bool) -> None:
    """Write a configuration file with every key and its meaning."""
    try:
        done = context.client.invoke("config.init", {})
    except NotRunningError:
        from appliance import configfile

        configfile.write_new(context.paths.config)
        done = {"file": str(context.paths.config)}
    if as_json:
        context.json(done)
    else:
        context.say(f"wrote {done['file']}")


@settings.command("set", cls=Command)
@click.argument("key")
@click.argument("value")
@json_option
@pass_context
def config_set(context: Context, key: str, value: str, as_json: bool) -> None:
    """Change a setting; takes effect at the next start."""
    try:
        done = context.client.invoke("config.set", {"key": key, "value": value})
    except NotRunningError:
        from appliance import configfile

        configfile.change(context.paths, key, value, context.environ)
        done = {"key": key, "value": value, "takes_effect": "at the next start"}
    if as_json:
        context.json(done)
    else:
        context.say(f"{key} = {value} in {context.paths.config}, from the next start on")


inside_settings = Group("config", [config_show, config_init, config_set], help="Settings: show, init, set.")
"""What of it is an action; the rest reads files, which is for whoever is at the machine."""


def audit_verify_offline(paths: Paths, environ: Mapping[str, str]) -> dict[str, Any]:
    """Check the audit log of an appliance that does not run.

    Raises:
        NotFoundError: There is no database or no key.
        StoreError: The database cannot be read.
    """
    from appliance.core.audit import verify
    from appliance.core.store import explain
    from appliance.core.watermark import Watermark

    key = Secrets(paths.secrets, dict(environ)).get("audit.key")
    if key is None or not paths.database.exists():
        raise NotFoundError(f"There is no audit log in {paths.data}.", "start the appliance once.")
    try:
        with closing(sqlite3.connect(f"file:{paths.database}?mode=ro", uri=True)) as connection:
            built: dict[str, Any] = msgspec.to_builtins(verify(connection, key, Watermark(paths.audit_mark, key)))
            return built
    except sqlite3.Error as error:
        raise explain(error, paths.database) from error


@click.command("verify", cls=Command)
@json_option
@pass_context
def audit_verify(context: Context, as_json: bool) -> None:
    """Check the audit log's chain; works without a running appliance."""
    try:
        verdict = context.client.invoke("audit.verify", {})
    except NotRunningError:
        verdict = audit_verify_offline(context.paths, context.environ)
    if as_json:
        context.json(verdict)
    elif verdict["intact"]:
        context.say(f"intact: {verdict['rows']} rows, {verdict['first_seq']} to {verdict['last_seq']}")
    if not verdict["intact"]:
        raise ApplianceError(
            f"The audit log was altered: {verdict['problem']}.", "keep a copy of the database and find out who did it."
        )


@click.command("doctor", cls=Command)
@json_option
@pass_context
def doctor(context: Context, as_json: bool) -> None:
    """Check this machine: what is there, what is missing, and the exact fix."""
    rows = context.client.invoke("doctor.run", {}) if context.client.local else _examine(context)
    if as_json:
        context.json(rows)
    else:
        context.say(render.as_text(rows, context.width, colour=context.colour, columns=render.COLUMNS["doctor"]))
    if failed := [row["check"] for row in rows if row["status"] == "failed"]:
        raise ApplianceError(f"{counted(len(failed), 'check')} failed: {', '.join(failed)}.", "carry out the fixes above.")


def _examine(context: Context) -> list[dict[str, Any]]:
    from appliance import upsparts
    from appliance.core.doctor.runner import run_checks
    from appliance.core.doctor.wiring import context_from

    load = functools.partial(config.load, context.paths, context.environ)
    found = asyncio.run(run_checks(context_from(load, context.paths, context.environ, upsparts.looks)))
    return [msgspec.to_builtins(result) for result in found]


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@pass_context
def completion(context: Context, shell: str, as_json: bool) -> None:
    """Print the completion script for a shell; say how to load it in the help."""
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    if maker is None:
        raise NotFoundError(f"There is no completion for {shell}.", "use bash, zsh or fish.")
    root = click.get_current_context().find_root().command
    source = maker(root, {}, "prime-spark", "_PRIME_SPARK_COMPLETE").source()
    if as_json:
        context.json({"shell": shell, "script": source})
    else:
        context.say(source)


def terminal_width(environ: Mapping[str, str], *, tty: bool) -> int:
    """Columns of tables: the terminal's, or wide where the answer goes into a file or pipe."""
    if environ.get("COLUMNS", "").isdigit():
        return max(20, int(environ["COLUMNS"]))
    return max(20, os.get_terminal_size().columns) if tty else 200
