"""`prime-spark`: starts the appliance, or talks to the one that runs.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no appliance runs, 4 not authorised, 5 needs confirmation,
6 nodes not reached.
Nothing heavy is imported here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click

from appliance import __version__, paths
from appliance.errors import ApplianceError, ConfigError, InvalidArgumentsError, NotRunningError
from appliance.errortext import error_text
from appliance.verbs import agent, firstboot, infer, static
from appliance.verbs.client import Client, SocketClient
from appliance.verbs.context import Context, error_json
from appliance.verbs.dynamic import noun_group
from appliance.verbs.forms import Away, Command, Group, echo
from appliance.verbs.nouns import NOUNS, about

OWN = {command.name: command for command in (
    static.status, static.services, static.actions, infer.infer, static.settings, static.doctor, static.completion,
    agent.agent, firstboot.first_boot, firstboot.data,
)}  # fmt: skip
INSIDE = {command.name: command for command in (
    static.status, static.services, static.actions, infer.infer, static.inside_settings, static.doctor,
)}  # fmt: skip
"""Verbs that do nothing but invoke actions, and so are for somebody far away too."""
COMPLETING = "_PRIME_SPARK_COMPLETE"
"""Set by the shell where it asks what could stand next."""
AT_A_TAB = 1.0
"""Seconds that a shell waits for what could stand next."""
STARTS = ("run", "headless", "attach")


class Root(Group):
    """The verbs known here, and every noun of the running appliance's registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Own verbs first, then nouns where an appliance runs."""
        nouns: set[str] = set()
        try:
            nouns = {action.name.partition(".")[0] for action in _client(ctx).actions()}
        except ApplianceError:
            nouns = set(NOUNS)
        own = _own(ctx)
        starts = STARTS if not _client(ctx).local else ()
        return [*starts, *(str(name) for name in own), *sorted(nouns - set(own))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A verb of our own, or a noun of the registry."""
        if name in STARTS and not _client(ctx).local:
            return _start_command(name)
        if name in _own(ctx):
            return _own(ctx)[name]
        return self._noun(ctx, name)

    def _noun(self, ctx: click.Context, noun: str) -> click.Command | None:
        try:
            mine = [action for action in _client(ctx).actions() if action.name.startswith(f"{noun}.")]
        except NotRunningError:
            group: click.Group = Away(noun, help=f"{about(noun)} Of an appliance that runs.")
        else:
            group = noun_group(noun, mine, _client(ctx))
        _add_own(group, noun, ctx)
        return group if group.commands or (noun in NOUNS and isinstance(group, Away)) else None


def _add_own(group: click.Group, noun: str, ctx: click.Context) -> None:
    """Verbs of a noun that have more to them than one action; loaded with their noun."""
    if noun == "audit":
        group.add_command(static.audit_verify)
    elif noun == "vpn":
        from appliance.verbs import vpn

        vpn.nest(group)
    elif noun in {"api", "tls"}:
        from appliance.verbs import access

        (access.nest if noun == "api" else access.nest_tls)(group)
    elif noun in {"fleet", "service"} and not isinstance(group, Away):
        from appliance.verbs import fleet, fleet_services

        known = {action.name: action for action in _client(ctx).actions()}
        (fleet if noun == "fleet" else fleet_services).nest(group, known, _client(ctx))
    elif noun == "agent" and not isinstance(group, Away):
        from appliance.verbs import agents

        agents.nest(group, _client(ctx))
    elif noun == "backup" and not _client(ctx).local:
        from appliance.verbs import backup

        backup.nest(group)
    elif noun == "update" and not isinstance(group, Away) and not _client(ctx).local:
        from appliance.verbs import update

        update.nest(group)
    elif noun == "llm":
        from appliance.verbs import llm

        llm.nest(group)
    elif noun == "power":
        from appliance.verbs import power

        power.nest(group)
    elif noun == "voice" and not isinstance(group, Away):
        from appliance.verbs import voice

        voice.nest(group, {action.name: action for action in _client(ctx).actions()}, _client(ctx))
    elif noun == "streams" and "tail" in group.commands and not group.commands["tail"].hidden:
        from appliance.verbs import streams

        group.add_command(streams.tail)


def _own(ctx: click.Context) -> Mapping[str | None, click.Command]:
    return INSIDE if _client(ctx).local else OWN


def _client(ctx: click.Context) -> Client:
    if ctx.obj is None:
        ctx.obj = make_context(os.environ)
    context: Context = ctx.obj
    return context.client


def _start_command(name: str) -> click.Command:
    if name == "run":
        text = "Start the appliance with its console here, or attach to the one that runs (the default)."
        return Command("run", callback=lambda: _start("run"), help=text)
    if name == "attach":
        text = "Attach this terminal to the appliance that runs; never start one."
        return Command("attach", callback=lambda: _start("attach"), help=text)
    text = "Start the appliance without a screen; keys are shortcuts, ? lists them."
    return Command("headless", callback=lambda: _start("headless"), help=text)


def _start(mode: str) -> None:
    from appliance import attaching, launch

    modes = {"run": launch.console, "headless": launch.headless, "attach": attaching.attach_only}
    raise SystemExit(modes[mode](os.environ))


def make_context(environ: Mapping[str, str]) -> Context:
    """The context of a command line in a terminal of this machine."""
    where = paths.find(environ)
    tty = sys.stdout.isatty()
    colour = tty and "NO_COLOR" not in environ and environ.get("TERM") != "dumb"
    client = SocketClient(where.api_socket, AT_A_TAB) if COMPLETING in environ else SocketClient(where.api_socket)
    return Context(client, where, environ, sys.stdout, static.terminal_width(environ, tty=tty), colour)


def root() -> Root:
    """The command line."""

    def default(ctx: click.Context) -> None:
        if ctx.invoked_subcommand is None:
            if _client(ctx).local:
                echo(ctx, ctx.get_help())
            else:
                _start("run")

    group = Root("prime-spark", callback=click.pass_context(default), invoke_without_command=True, help=HELP)
    group.params.append(
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
        )
    )
    return group


HELP = """The edge appliance: without a verb, its console.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no appliance runs, 4 not authorised, 5 needs confirmation,
6 nodes not reached.
"""


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        echo(ctx, f"prime-spark {__version__}")
        ctx.exit()


def check_text(arguments: Sequence[str]) -> None:
    """Refuse what no text can hold, and so no request. Raises InvalidArgumentsError."""
    for number, argument in enumerate(arguments, 1):
        if not argument.isascii() and any("\ud800" <= sign <= "\udfff" for sign in argument):
            shown = argument.encode("utf-8", "backslashreplace").decode()[:80]
            raise InvalidArgumentsError(f"Argument {number} is not UTF-8 text: {shown}", "give it as UTF-8.")


def run(arguments: Sequence[str], context: Context, err: TextIO) -> int:
    """Run one command line; returns the exit code."""
    as_json = "--json" in arguments
    try:
        check_text(arguments)
        answer: Any = root().main(list(arguments), prog_name="prime-spark", standalone_mode=False, obj=context)
    except ApplianceError as error:
        click.echo(error_json(error) if as_json else error_text(error), file=err)
        return error.exit_code
    except click.ClickException as error:
        error.show(file=err)
        return error.exit_code
    except click.Abort:
        click.echo("stopped", file=err)
        return 130
    finally:
        context.client.close()
    return answer if isinstance(answer, int) else 0


def main() -> None:
    """The console script."""
    if COMPLETING in os.environ:
        try:
            root().main(prog_name="prime-spark", complete_var=COMPLETING)
        except ApplianceError:  # a shell that completes shows no errors
            raise SystemExit(1) from None
    try:
        context = make_context(os.environ)
    except ConfigError as error:
        click.echo(error_text(error), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    try:
        raise SystemExit(run(sys.argv[1:], context, sys.stderr))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(1) from None
