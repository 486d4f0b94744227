"""`fleet put`, `get` and `sync`: files to and from nodes, followed to their end; and how folders and texts are shown."""

from __future__ import annotations

import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from rich.text import Text

from appliance.core.printable import printable
from appliance.errors import ConfirmationRequiredError
from appliance.screens import format as f
from appliance.verbs import render
from appliance.verbs.context import Context, json_option, pass_context
from appliance.verbs.fleet_jobs import followed, told
from appliance.verbs.fleet_select import place, selection, selector
from appliance.verbs.forms import Command

STEP = ("do", "path", "size", "why")
LISTED = ("name", "size", "rights", "owner", "changed")
LIMIT = click.option("--limit-kib", type=click.FloatRange(min=1), help="KiB a second at most, all nodes together.")


def here(context: Context, path: str) -> str:
    """A path of whoever asks; over SSH it is one of the appliance's exchange folder."""
    if context.client.local:
        return path
    whole = str(Path(path).expanduser().absolute())
    return whole + ("/" if path.endswith("/") and whole != "/" else "")


@click.command("put", cls=Command)
@click.argument("source")
@click.argument("target")
@selection
@LIMIT
@json_option
@pass_context
def put(
    context: Context, /, source: str, target: str, limit_kib: float | None, as_json: bool, **chosen: Any
) -> int:  # fmt: skip
    """Copy a file to nodes: fleet put FILE NODE:PATH, or fleet put FILE PATH -n NODE -g GROUP.

    Checked by SHA-256 at the far end, and renamed only then; a copy that was cut off is gone on with.
    """
    nodes, path = place(target, selector(**chosen))
    args = {"nodes": nodes, "source": here(context, source), "target": path, **_paced(limit_kib)}
    return told(context, followed(context, context.client.invoke("fleet.put", args)), as_json=as_json)


@click.command("get", cls=Command)
@click.argument("source")
@click.argument("target", default=".")
@selection
@LIMIT
@json_option
@pass_context
def get(context: Context, /, source: str, target: str, limit_kib: float | None, as_json: bool, **chosen: Any) -> int:
    """Copy a file of nodes here: fleet get NODE:PATH [TARGET]; of several nodes, each into a folder of its name."""
    nodes, path = place(source, selector(**chosen))
    args = {"nodes": nodes, "source": path, "target": here(context, target), **_paced(limit_kib)}
    return told(context, followed(context, context.client.invoke("fleet.get", args)), as_json=as_json)


def _paced(limit_kib: float | None) -> dict[str, Any]:
    return {} if limit_kib is None else {"limit_kib": limit_kib}


@click.command("sync", cls=Command)
@click.argument("folder")
@click.argument("there")
@selection
@click.option("--down", is_flag=True, help="Make the folder here like that of the node; else the nodes like here.")
@click.option("--include", multiple=True, metavar="PATTERN", help='Only files like this, such as "*.conf"; may be given again.')
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Nothing like this; may be given again.")
@click.option("--delete", is_flag=True, help="Delete what is only on the side that is changed; the plan is shown first.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Delete what the plan says without asking.")
@LIMIT
@json_option
@pass_context
def sync(context: Context, /, folder: str, there: str, *, limit_kib: float | None, as_json: bool, **given: Any) -> int:
    """Make folders alike: fleet sync FOLDER NODE:FOLDER, with --down the other way round."""
    down, dry_run, yes = (given.pop(name) for name in ("down", "dry_run", "yes"))
    meant = {name: list(given.pop(name)) for name in ("include", "exclude")}
    delete = given.pop("delete")
    nodes, path = place(there, selector(**given))
    args: dict[str, Any] = {
        "nodes": nodes, "here": here(context, folder), "there": path, "direction": "down" if down else "up",
        "delete": delete, **meant,
    }  # fmt: skip
    if delete or dry_run:
        plans = context.client.invoke("fleet.sync-plan", args)
        if dry_run:
            _show(context, plans, as_json=as_json)
            return 0
        args["plan"] = [f"{each['node']}={each['digest']}" for each in plans]
        _confirm(context, plans, yes=yes, as_json=as_json)
    job = context.client.invoke("fleet.sync", {**args, **_paced(limit_kib)})
    return told(context, followed(context, job), as_json=as_json)


def _show(context: Context, plans: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        context.json(plans)
    else:
        text = render.formed(FORMS, "fleet.sync-plan", plans, context.width, colour=context.colour)
        context.say(text or "nothing to do")


def _confirm(context: Context, plans: list[dict[str, Any]], *, yes: bool, as_json: bool) -> None:
    """Ask before anything is deleted. Raises ConfirmationRequiredError."""
    gone = sum(each["deletions"] for each in plans)
    if yes or not gone:
        return
    if not as_json:
        _show(context, plans, as_json=False)
    text = f"Delete {f.counted(gone, 'name')} on {f.counted(len(plans), 'node')}?"
    if as_json or context.client.local or not sys.stdin.isatty() or not click.confirm(text):
        raise ConfirmationRequiredError(text, "look at it with --dry-run, and confirm it with --yes.")


# -- forms -------------------------------------------------------------------------------------------------------------


def _plans(plans: list[dict[str, Any]], _: int) -> list[Any]:
    blocks: list[Any] = []
    for plan in plans:
        head = (
            f"{plan['node']}: {f.counted(plan['files'], 'file')} to copy, {f.size(plan['bytes'])}; "
            f"{f.counted(plan['deletions'], 'deletion')}; {plan['same']} alike"
        )
        blocks.append(Text(printable(head)))
        rows = [{**step, "size": f.size(step["size"]) if step["size"] else ""} for step in plan["steps"]]
        if rows:
            blocks.append(render.table(rows, STEP))
        if plan["skipped"]:
            lines = [f"left alone: {name}: {why}" for name, why in plan["skipped"]]
            blocks.append(Text(printable("\n".join(lines), keep="\n")))
    return blocks


def _folder(files: list[dict[str, Any]], _: int) -> list[Any]:
    rows = []
    for each in sorted(files, key=lambda each: (not each["is_folder"], each["path"])):
        name = each["path"].rpartition("/")[2]
        told_name = f"{name}/" if each["is_folder"] else f"{name} → {each['link_to']}" if each["link_to"] else name
        rows.append({
            "name": told_name, "size": "" if each["is_folder"] else f.size(each["size"]), "rights": stat.filemode(each["mode"]),
            "owner": f"{each['owner']}:{each['group']}", "changed": f.clock(each["modified"]),
        })  # fmt: skip
    return [render.table(rows, LISTED)]


def _text(view: dict[str, Any], _: int) -> list[Any]:
    if view["binary"]:
        return [Text(printable(f"{view['path']} is no text ({f.size(view['size'])}); copy it with fleet get."))]
    end = view["offset"] + view["taken"]
    more = f"\n({end} of {view['size']} bytes; --offset {end} shows what follows)" if view["more"] else ""
    return [Text(printable(view["text"].rstrip("\n") + more, keep="\n\t"))]


FORMS: Mapping[str, render.Form] = MappingProxyType({
    "fleet.sync-plan": _plans, "fleet.files": _folder, "fleet.read-file": _text,
})  # fmt: skip
NOTHING: Mapping[str, str] = MappingProxyType({"fleet.files": "an empty folder"})
