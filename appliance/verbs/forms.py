"""Commands whose help goes where their answers go, and parameters that are secrets."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import click

from appliance.away import none_runs
from appliance.errors import InvalidArgumentsError
from appliance.verbs.context import Context
from appliance.verbs.nouns import commands

WORDS = frozenset(click.types.BoolParamType.bool_states)
"""What a switch takes for an answer."""
FURTHER = "Which options and arguments it takes is told while an appliance runs: start it with `prime-spark`."
LENIENT = {"ignore_unknown_options": True}
"""Of a command whose options are not known here."""


class Switch(click.Option):
    """Yes or no: alone it means yes, and only a word for one of both after it is taken as its value.

    Args:
        flag: With its dashes.
        name: Of the parameter.
        settings: Further ones of click.Option.
    """

    def __init__(self, flag: str, name: str, **settings: Any) -> None:
        super().__init__([flag, name], type=click.BOOL, is_flag=False, flag_value="yes", **settings)

    def alone(self, following: str | None) -> bool:
        """Whether it has no value, where that word comes next."""
        return following is None or following.strip().lower() not in WORDS


class Command(click.Command):
    """A verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's, but a switch leaves alone what follows it and is no answer to it."""
        switches = {flag: each for each in self.params if isinstance(each, Switch) for flag in each.opts}
        end = args.index("--") if "--" in args else len(args)
        for place in range(end):
            switch = switches.get(args[place])
            if switch is not None and switch.alone(args[place + 1] if place + 1 < end else None):
                args[place] = f"{args[place]}=yes"
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """As click's, but it writes to the reader of this command line, who may be far away."""
        return _aimed(super().get_help_option(ctx))


class Group(click.Group):
    """A noun."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, but a name that is not there is told with the nearest one that is."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            if near := difflib.get_close_matches(args[0], self.list_commands(ctx), n=1):
                raise click.UsageError(f"No such command {args[0]!r}. Did you mean {near[0]!r}?", ctx) from None
            raise

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """As click's, but it writes to the reader of this command line, who may be far away."""
        return _aimed(super().get_help_option(ctx))


class Away(Group):
    """A noun of an appliance that does not run: it is there, and whoever uses it is told what to do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Those of an appliance that runs."""
        return sorted({*super().list_commands(ctx), *commands(str(self.name))})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """A command that works without an appliance; of all others, one that says that none runs."""
        return super().get_command(ctx, name) or self._absent(name)

    def _absent(self, name: str) -> click.Command:
        def run(**_: Any) -> None:
            context = click.get_current_context().find_object(Context)
            assert context is not None, "the command line gives it to all commands"
            raise none_runs(context.paths.run, f"No appliance runs here, and {self.name} {name} asks it.")

        told = commands(str(self.name)).get(name)
        if told is None:
            rest = click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)
            plain = {"ignore_unknown_options": True, "help_option_names": []}
            return Command(name, params=[rest], callback=run, hidden=True, context_settings=plain)
        rest = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
        full = f"{told.rstrip('.')}.\n\n{FURTHER}"
        return Command(name, params=[rest], callback=run, help=full, short_help=told, context_settings=LENIENT)


def _aimed(option: click.Option | None) -> click.Option | None:
    if option is not None:
        option.callback = _show_help
    return option


def _show_help(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        echo(ctx, ctx.get_help())
        ctx.exit()


def echo(ctx: click.Context, text: str) -> None:
    """Write a text to the reader of this command line."""
    context = ctx.find_object(Context)
    click.echo(text, file=context.out if context is not None else None)


def secret_options(name: str, description: str, *, local: bool) -> list[click.Parameter]:
    """Flags that say where a secret comes from; it is never an argument, which every user of the machine could read."""
    flag = f"--{name.replace('_', '-')}"
    told = f"{description}: read it from standard input, one line."
    found: list[click.Parameter] = [click.Option([f"{flag}-stdin", f"{name}_stdin"], is_flag=True, help=told)]
    if not local:
        found.insert(0, click.Option([flag, name], is_flag=True, help=f"{description}: ask for it, unseen."))
    return found


def secret(context: Context, name: str, given: dict[str, Any], *, required: bool) -> str | None:
    """A secret from standard input or from whoever sits at the terminal; None where none is given.

    Raises:
        InvalidArgumentsError: It is needed, and there is nobody to ask; or the line is empty.
    """
    asked, read = given.pop(name, False), given.pop(f"{name}_stdin", False)
    flag = f"--{name.replace('_', '-')}-stdin"
    if read:
        if line := context.read_line():
            return line
        raise InvalidArgumentsError(f"There is no {name} on standard input.", f"give one line with {flag}.")
    if not asked and not required:
        return None
    if context.client.local or not sys.stdin.isatty():
        raise InvalidArgumentsError(f"The {name} is missing.", f"give {flag} and the {name} on standard input.")
    return str(click.prompt(name.replace("_", " ").capitalize(), hide_input=True, confirmation_prompt=True))
