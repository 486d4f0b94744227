"""What every verb is handed, and how it says things."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import click
import msgspec

from appliance.errors import ApplianceError
from appliance.paths import Paths
from appliance.verbs.client import Client


def stdin_line() -> str:
    """The first line of this process's standard input."""
    return sys.stdin.readline().rstrip("\r\n")


@dataclass
class Context:
    """One run of the command line.

    Attributes:
        client: Reaches the appliance.
        paths: Where things lie.
        environ: Environment variables.
        out: Where answers go.
        width: Columns of the answer's tables.
        colour: Whether the reader's terminal takes colours.
        read_line: Reads a line of the reader's standard input, without its end.
    """

    client: Client
    paths: Paths
    environ: Mapping[str, str]
    out: TextIO
    width: int
    colour: bool
    read_line: Callable[[], str] = stdin_line

    def say(self, text: str) -> None:
        """Write one piece of text."""
        click.echo(text, file=self.out)

    def json(self, value: Any) -> None:
        """Write a value as indented JSON."""
        self.say(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def error_json(error: ApplianceError) -> str:
    """The error as the API has it; `others` is what else is wrong in the same file."""
    told: dict[str, Any] = {"code": error.code, "message": error.message, "next_step": error.next_step}
    if error.others:
        told["others"] = [{"code": each.code, "message": each.message, "next_step": each.next_step} for each in error.others]
    return msgspec.json.encode({"error": told}).decode()


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
pass_context = click.make_pass_decorator(Context)
