"""The VPN's answers as text, `vpn peer VERB`, and a peer's file as a file or a code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import click
from rich.table import Table
from rich.text import Text

from appliance.core.printable import printable
from appliance.errors import ApplianceError, InvalidArgumentsError
from appliance.screens import format as f
from appliance.screens import vpn_code
from appliance.verbs import render
from appliance.verbs.context import Context
from appliance.verbs.forms import Group

Block = Table | Text
PEERS = ("name", "state", "address", "handshake", "in", "out", "latency", "loss", "endpoint", "note")
WIDE = 110
"""Columns from which all fields of a row are shown."""
PREFIX = "peer-"
SAID = MappingProxyType({"never": "has never been connected", "missing": "is not in the tunnel", "unknown": "cannot be seen"})
"""States that are no adjectives, in a sentence."""
CONSOLES = frozenset({"linux", "vt100", "vt220", "ansi", "dumb"})
"""Terminals whose fonts may lack half blocks."""


def nest(group: click.Group) -> None:
    """`vpn peer-add` and the like are also, and rather, `vpn peer add`."""
    inner = Group("peer", help="Peers: add, change, export, rotate, provision.")
    for name, command in list(group.commands.items()):
        if name.startswith(PREFIX):
            if command.callback is not None and name == "peer-export" and not command.hidden:
                _exporting(command)
            inner.add_command(command, name.removeprefix(PREFIX))
            del group.commands[name]
    if inner.commands:
        group.add_command(inner)


def _exporting(found: click.Command) -> None:
    plain = found.callback
    path = click.Path(dir_okay=False, path_type=Path)
    found.params += [
        click.Option(["--qr"], is_flag=True, help="Draw it as a code, for a telephone's camera."),
        click.Option(["--output"], type=path, help="Write it to this new file, of mode 0600."),
    ]

    @click.pass_obj
    def run(context: Context, /, *, qr: bool = False, output: Path | None = None, **given: Any) -> None:
        if not qr and output is None and plain is not None:
            plain(**given)
            return
        if given["as_json"] or (output is not None and context.client.local):
            raise InvalidArgumentsError(
                "--json, --qr and --output exclude each other; --output needs files of your own.", "give one."
            )
        args = {"name": given["name"], **({"endpoint": given["endpoint"]} if given.get("endpoint") else {})}
        if output is not None:
            _to_file(context, args, output, yes=given.get("yes", False))
        else:
            room, full = room_of(context.out), context.environ.get("TERM", "") not in CONSOLES
            check_room(room, full=full)
            context.say(code(_asked(context, args, yes=given.get("yes", False)), room, full=full))

    found.callback = run


def _asked(context: Context, args: Mapping[str, Any], *, yes: bool) -> dict[str, Any]:
    from appliance.verbs.dynamic import confirmed

    answer: dict[str, Any] = confirmed(context, "vpn.peer-export", dict(args), yes=yes)
    return answer


def _to_file(context: Context, args: Mapping[str, Any], output: Path, *, yes: bool) -> None:
    """The file is made before the key is asked for: it is shown once."""
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            answer = _asked(context, args, yes=yes)
            file.write(answer["text"])
            file.flush()
            os.fsync(file.fileno())
    except (ApplianceError, OSError, click.ClickException):
        with suppress(OSError):
            output.unlink()
        raise
    context.say(
        f"{printable(answer['name'])}: written to {output}; there: sudo install -m 600 FILE /etc/wireguard/{answer['file']}"
    )


def room_of(out: TextIO) -> tuple[int, int] | None:
    """Columns and lines of the reader's terminal; None where it is none: a file or a pipe takes everything."""
    try:
        found = os.get_terminal_size(out.fileno()) if out.isatty() else None
    except (OSError, ValueError):  # a terminal that does not say, or a stream without a descriptor
        return None
    return (found.columns, found.lines) if found is not None else None


def check_room(room: tuple[int, int] | None, *, full: bool) -> None:
    """Refuse before the key is asked for, which is shown once. Raises InvalidArgumentsError."""
    columns, lines = vpn_code.least_room(full=full)
    if room is not None and (room[0] < columns or room[1] <= lines):
        raise InvalidArgumentsError(
            f"A code takes {columns} columns and {lines + 1} lines or more here, and this terminal has {room[0]} x {room[1]}; "
            "nothing was shown, and the key is still there.",
            "use a larger terminal (over SSH a code is half as large), or `--output FILE`.",
        )


def code(answer: Mapping[str, Any], room: tuple[int, int] | None, *, full: bool) -> str:
    """A peer's file as a code for this terminal; as text where it does not fit, for it is shown once."""
    rows = tuple(answer["qr"])
    if not rows:
        return f"The file is too long for a code. This is it, once:\n\n{printable(answer['text'], keep=chr(10))}"
    columns, lines = vpn_code.room(rows, full=full)
    if room is not None and (room[0] < columns or room[1] <= lines):
        told = (
            f"A code takes {columns} x {lines + 1} cells, and this terminal has {room[0]} x {room[1]}. This is the file, once:"
        )
        return f"{told}\n\n{printable(answer['text'], keep=chr(10))}"
    return "\n".join(vpn_code.drawn(rows, full=full))


# -- forms -------------------------------------------------------------------------------------------------------------


def _status(value: dict[str, Any], width: int) -> list[Block]:
    said = "up" if value["is_active"] else "down" if value["enabled"] else "off"
    head = f"{value['interface']} {said}   {value['connected_peers']} of {value['total_peers']} peers connected"
    facts = {
        "carried by": value["backend"], "addresses": ", ".join(value["addresses"]), "port": value["listen_port"],
        "public key": value["public_key"], "reached at": value["endpoint"], "MTU": value["mtu"],
        "reconciled": f.since(value["reconciled"]) if value["reconciled"] else None,
    }  # fmt: skip
    known = "   ".join(f"{name} {given}" for name, given in facts.items() if given)
    blocks: list[Block] = [Text(printable(f"{head}\n{known}" if known else head, keep="\n"))]
    trouble = [*value["problems"], *([f"next: {value['next_step']}"] if value["next_step"] else [])]
    trouble += [f"others changed the tunnel, and it was put right: {each}" for each in value["foreign"][-3:]]
    if trouble:
        blocks.append(Text(printable("\n".join(trouble), keep="\n")))
    if value["peers"]:
        blocks.append(render.table([_row(peer) for peer in value["peers"]], PEERS if width >= WIDE else (*PEERS[:6], "note")))
    return [*blocks, *(_provider(each) for each in value["providers"])]


def _row(peer: dict[str, Any]) -> dict[str, Any]:
    note = peer["rotation"] or (peer["reason"] if peer["state"] != "connected" else "")
    return {
        "name": peer["name"], "state": peer["state"],
        "address": ", ".join(each.partition("/")[0] for each in peer["addresses"]),
        "handshake": f.NONE if peer["handshake_age_s"] is None else f.duration(peer["handshake_age_s"]),
        "in": f.rate(peer["rx_rate"]), "out": f.rate(peer["tx_rate"]),
        "latency": f.milliseconds(peer["latency_ms"]), "loss": f.percent(None if peer["loss"] is None else 100 * peer["loss"]),
        "endpoint": peer["endpoint"] or f.NONE, "note": note,
    }  # fmt: skip


def _provider(value: dict[str, Any]) -> Text:
    count = "" if value["total_peers"] is None else f", {value['connected_peers']} of {value['total_peers']} peers connected"
    return Text(printable(f"{value['name']} {value['version']}: {value['state']} {value['address']}{count}"))


def _peer(value: dict[str, Any], width: int) -> list[Block]:
    shown = {
        name: given for name, given in value.items()
        if given not in (None, "", [], 0.0) and name not in {"history", "attempts", "rx_rate", "tx_rate", "handshake_age_s"}
    }  # fmt: skip
    shown["handshake"] = _row(value)["handshake"]
    blocks: list[Block] = [render.record(shown, width)]
    if value["exportable"]:
        blocks.append(Text(printable(f"its file, once: vpn peer export {value['name']} (--qr for a code)")))
    if value["attempts"]:
        blocks.append(render.table(value["attempts"], ("time", "step", "outcome")))
    return blocks


def _explained(value: dict[str, Any], _: int) -> list[Block]:
    lines = [f"{value['peer']} {SAID.get(value['state'], 'is ' + value['state'])}."]
    for number, finding in enumerate(value["findings"], 1):
        lines += ["", f"{number}. {finding['what']} ({finding['cause']}, {100 * finding['likelihood']:.0f} %)"]
        lines += [f"   seen: {each}" for each in finding["evidence"]]
        lines += [f"   do:   {finding['fix']}"] if finding["fix"] else []
    if value["looked_at"]:
        lines += ["", f"looked at: {'; '.join(value['looked_at'])}"]
    return [Text(printable("\n".join(lines), keep="\n"))]


def _exported(value: dict[str, Any], _: int) -> list[Block]:
    return [Text(printable(value["text"].rstrip("\n"), keep="\n"))]


def _imported(value: dict[str, Any], _: int) -> list[Block]:
    lines = [f"{len(value['peers'])} peers: {', '.join(value['peers'])}"]
    lines += [f"this hub has {'the key of the file' if value['own_key'] else 'a key of its own'} now"]
    lines += list(value["ignored"])
    lines += [f"next: prime-spark config set {each['key']} {each['value']}" for each in value["settings"]]
    lines += [value["problem"]] if value["problem"] else []
    return [Text(printable("\n".join(lines), keep="\n"))]


FORMS: Mapping[str, Callable[[Any, int], list[Block]]] = MappingProxyType({
    "vpn.status": _status, "vpn.explain": _explained, "vpn.peer-export": _exported, "vpn.import": _imported,
    **{f"vpn.peer-{verb}": _peer for verb in ("add", "change", "show", "enable", "disable", "rotate", "provision")},
})  # fmt: skip
