"""`prime-spark first-boot` and `prime-spark data reset`: the file on the card, and beginning anew."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from appliance.errors import ConfirmationRequiredError
from appliance.verbs.context import Context, json_option, pass_context
from appliance.verbs.forms import Command, Group

BOOT, DATA, ROOT = Path("/boot/firmware"), Path("/data"), Path("/")
FOLDER = click.Path(file_okay=False, path_type=Path)


def _where(command: Any) -> Any:
    """The places, which only tests and builders of images change."""
    for name, place, what in (
        ("boot", BOOT, "The card's first partition."), ("data", DATA, "The data partition."), ("root", ROOT, "The system."),
    ):  # fmt: skip
        command = click.option(f"--{name}", type=FOLDER, default=place, hidden=True, help=what)(command)
    return command


@click.group("first-boot", cls=Group)
def first_boot() -> None:
    """The file prime-spark.toml on the card: check it anywhere, apply it, see what came of it."""


@first_boot.command("check", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@pass_context
def check(context: Context, file: Path, as_json: bool) -> None:
    """Check a file on any computer; nothing is changed.

    What only the machine knows, such as its keyboards' layouts and accounts, is checked there.
    """
    from appliance.core.lifecycle.firstboot import erase, reading, validate
    from appliance.core.lifecycle.firstboot.notes import notes as warned
    from appliance.firstboot import FirstBootParts

    raw = reading.read(file)
    found = validate.check(file, raw, FirstBootParts())
    notes = (*warned(found), *erase.remarks(reading.decode(file, raw)))
    if as_json:
        context.json({
            "valid": True, "file": str(file), "applied": found.applied is not None, "tables": found.tables, "notes": notes,
        })  # fmt: skip
        return
    if found.applied is not None:
        context.say(f"{file}: was applied (the clock showed {found.applied.clock or 'nothing'}); it is not applied again")
    else:
        context.say(f"{file}: valid: {', '.join(found.tables) or 'it says nothing'}")
    for each in notes:
        context.say(f"note: {each}")


@first_boot.command("apply", cls=Command)
@_where
@json_option
@pass_context
def apply(context: Context, boot: Path, data: Path, root: Path, as_json: bool) -> int:
    """Apply the file, if there is one that was not applied, and write /etc; the image does it at every start."""
    from appliance import firstboot

    outcome = firstboot.apply(boot, data, root)
    _say(context, outcome, as_json)
    return 2 if outcome.wrong else 0


@first_boot.command("status", cls=Command)
@_where
@json_option
@pass_context
def status(context: Context, boot: Path, data: Path, root: Path, as_json: bool) -> int:
    """Show what came of the file at this start; exit code 2 where something of it is wrong."""
    from appliance.core.lifecycle.firstboot.model import read_outcome
    from appliance.errors import AbsentError, NotAuthorizedError

    run = root / "run/prime-spark"
    if run.exists() and not os.access(run, os.X_OK):
        raise NotAuthorizedError(f"{run} is not this user's.", "sudo prime-spark first-boot status")
    outcome = read_outcome(run)
    if outcome is None:
        told = "Nothing is known of a first-boot file at this start."
        raise AbsentError(told, "it is read where the machine was started from our image: docs/first-boot.md")
    _say(context, outcome, as_json)
    return 2 if outcome.wrong else 0


def _say(context: Context, outcome: Any, as_json: bool) -> None:
    from appliance.firstboot import told

    if as_json:
        context.json(msgspec.to_builtins(outcome))
    else:
        context.say("\n".join(told(outcome)))


@click.group("data", cls=Group)
def data() -> None:
    """The data partition of the image."""


@data.command("reset", cls=Command)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--erase-everything", "everything", is_flag=True, help="Also where the data partition is sound.")
@_where
@json_option
@pass_context
def reset(context: Context, boot: Path, data: Path, root: Path, yes: bool, everything: bool, as_json: bool) -> None:
    """Begin anew with an empty data partition; everything in it is lost.

    One that cannot be mounted is formatted. One that is sound is emptied at the next start, and only with --erase-everything.
    """
    from appliance.core.lifecycle.firstboot import card
    from appliance.core.lifecycle.firstboot import reset as resetting

    card.demand_image(root)
    if not yes:
        _ask("Everything in the data partition is lost: users, keys, settings, measurements. Go on?")
    done = resetting.reset(data, root, root / "run/prime-spark", everything=everything)
    if as_json:
        context.json({"done": done})
    else:
        context.say(done)


@data.command("keep", cls=Command)
@_where
@json_option
@pass_context
def keep(context: Context, boot: Path, data: Path, root: Path, as_json: bool) -> None:
    """Take back that the data partition is emptied at the next start."""
    from appliance.core.lifecycle.firstboot import reset as resetting

    there = resetting.keep(data, root)
    if as_json:
        context.json({"was_asked_for": there})
    else:
        context.say("it is kept" if there else "nothing was asked for")


def _ask(told: str) -> None:
    if not sys.stdin.isatty():
        raise ConfirmationRequiredError(told, "say --yes.")
    if not click.confirm(told):
        raise click.Abort
