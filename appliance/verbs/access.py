"""`api token VERB` and `api session VERB`, and certificates and second factors as text, codes or files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.errors import InvalidArgumentsError
from appliance.screens import vpn_code
from appliance.verbs.context import Context
from appliance.verbs.forms import Group
from appliance.verbs.vpn import CONSOLES, room_of

Block = Table | Text
INNER = {"token": "Tokens of programs: create, list, revoke.", "session": "Logins: list, revoke."}


def nest(group: click.Group) -> None:
    """`api token-create` and the like are rather `api token create`."""
    for noun, text in INNER.items():
        inner = Group(noun, help=text)
        for name, command in list(group.commands.items()):
            if name.startswith(f"{noun}-"):
                inner.add_command(command, name.removeprefix(f"{noun}-"))
                del group.commands[name]
        if inner.commands:
            group.add_command(inner)


def nest_tls(group: click.Group) -> None:
    """`tls export` writes a file, or draws a code."""
    found = group.commands.get("export")
    if found is None or found.callback is None or found.hidden:
        return
    plain, path = found.callback, click.Path(dir_okay=False, path_type=Path)
    found.params += [
        click.Option(["--qr"], is_flag=True, help="Draw it as a code, for a telephone's camera."),
        click.Option(["--output"], type=path, help="Write it to this new file."),
    ]

    @click.pass_obj
    def run(context: Context, /, *, qr: bool = False, output: Path | None = None, **given: Any) -> None:
        if not qr and output is None:
            plain(**given)
            return
        if given["as_json"] or (qr and output is not None) or (output is not None and context.client.local):
            raise InvalidArgumentsError(
                "--json, --qr and --output exclude each other; --output needs files of your own.", "give one."
            )
        answer = context.client.invoke("tls.export", {})
        context.say(drawn(context, answer) if output is None else written(output, answer))

    found.callback = run
    group.add_command(found, "ca")  # what it is, for those who look for it so


def written(output: Path, answer: Mapping[str, Any]) -> str:
    """Write the authority's certificate. Raises click.FileError."""
    try:
        with output.open("x", encoding="ascii") as file:
            file.write(answer["pem"])
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from error
    return f"written to {output}; SHA-256 {answer['fingerprint']}"


def drawn(context: Context, answer: Mapping[str, Any]) -> str:
    """A code for this terminal. Raises InvalidArgumentsError where it does not fit."""
    rows, full = tuple(answer["qr"]), context.environ.get("TERM", "") not in CONSOLES
    room, (columns, lines) = room_of(context.out), vpn_code.room(rows, full=full)
    if room is not None and (room[0] < columns or room[1] <= lines):
        raise InvalidArgumentsError(
            f"The code takes {columns} columns and {lines + 1} lines here, and this terminal has {room[0]} x {room[1]}.",
            "use a larger terminal, or `--output FILE`.",
        )
    return "\n".join(vpn_code.drawn(rows, full=full))


# -- forms -------------------------------------------------------------------------------------------------------------


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _certificate(title: str, value: Mapping[str, Any]) -> str:
    by = "" if value["own"] else "   your own"
    names = ", ".join(value["names"])
    lines = [f"{title}: {value['subject']}{by}", *([f"  names   {names}"] if names else [])]
    lines += [f"  holds   {_moment(value['begins'])} to {_moment(value['ends'])}", f"  SHA-256 {value['fingerprint']}"]
    return "\n".join(lines)


def _show(value: Mapping[str, Any], _: int) -> list[Block]:
    parts = [_certificate("certificate", value["certificate"]), _certificate("authority", value["authority"])]
    parts += [_certificate("for public names", {**value["public"], "own": True})] if value["public"] else []
    parts += [f"trouble: {value['trouble']}"] if value["trouble"] else []
    return [Text(printable("\n".join(parts), keep="\n"))]


def _renewed(value: Mapping[str, Any], _: int) -> list[Block]:
    return [Text(printable(_certificate("certificate", value), keep="\n"))]


def _export(value: Mapping[str, Any], _: int) -> list[Block]:
    return [Text(value["pem"].rstrip())]


def _token(value: Mapping[str, Any], _: int) -> list[Block]:
    ends = f"until {_moment(value['expires'])}" if value["expires"] else "until it is revoked"
    head = f"{value['name']}: {value['role']}, as {value['user']}, {ends}; reaches {' '.join(value['scopes'])}"
    return [Text(printable(f"{head}\n\n{value['token']}\n\nThis is shown once.", keep="\n"))]


def _begin(value: Mapping[str, Any], _: int) -> list[Block]:
    code = "\n".join(vpn_code.drawn(tuple(value["qr"]), full=True))
    told = f"Read this with an authenticator, or type {value['secret']}; then: prime-spark totp confirm {value['user']}"
    return [Text(f"{code}\n{printable(told)}")]


FORMS: Mapping[str, Callable[[Any, int], list[Block]]] = MappingProxyType({
    "tls.show": _show, "tls.renew": _renewed, "tls.export": _export, "api.token-create": _token, "totp.begin": _begin,
})  # fmt: skip
