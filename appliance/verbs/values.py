"""`memory get`: a value for people, as JSON, or its bytes as they went in; and `sync run`, which waits for its end."""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import msgspec
from rich.text import Text

from appliance.core.actions import ActionInfo
from appliance.core.printable import printable
from appliance.errors import ApplianceError, InvalidArgumentsError
from appliance.verbs import memory, models, render
from appliance.verbs.context import Context

FACTS = ("key", "kind", "size", "modified", "expires", "tags", "checksum")


def extended(found: click.Command, action: ActionInfo, *, local: bool) -> click.Command:
    """The command of an action that has more to it here; any other as it is.

    Args:
        found: As it was made from the registry.
        action: What it carries out.
        local: The asker is far away, and the command runs in the appliance: no file of it is written for them.
    """
    more = MORE.get(action.name)
    return found if more is None else more(found, local)


def _getting(found: click.Command, local: bool) -> click.Command:
    found.params = [each for each in found.params if each.name != "form"]
    if not local:
        told, path = "Write the value's bytes to this file, as they went in.", click.Path(dir_okay=False, path_type=Path)
        found.params.append(click.Option(["--output"], type=path, help=told))
        found.params.append(click.Option(["--raw"], is_flag=True, help="Write the value's bytes to standard output."))

    @click.pass_obj
    def run(context: Context, /, key: str, as_json: bool, output: Path | None = None, raw: bool = False) -> None:
        if as_json + raw + (output is not None) > 1:
            raise InvalidArgumentsError("--json, --raw and --output exclude each other.", "give one of them.")
        plain = not (as_json or raw or output)
        result = context.client.invoke("memory.get", {"key": key, "form": "text" if plain else "raw"})
        if plain:
            context.say(value_text(result, context))
            return
        body = base64.b64decode(result["value"])
        if as_json:
            context.json({**result, **_as_json(result["shape"], body)})
        elif output is not None:
            write_file(output, body)
            context.say(f"{printable(result['key'])}: {len(body)} bytes in {output}")
        else:
            to_output(body)

    found.callback = run
    return found


def value_text(result: Mapping[str, Any], context: Context) -> str:
    """What is known of a value, and the value for people: no bytes that are none of a text."""
    facts = render.record({name: result[name] for name in FACTS}, context.width)
    head = render.draw(facts, context.width, colour=context.colour)
    return f"{head}\n\n{_body(result, local=context.client.local)}"


def _body(result: Mapping[str, Any], *, local: bool) -> str:
    if not result["size"]:
        return "(empty: 0 bytes)"
    if result["shape"] != "binary":
        return printable(result["value"], keep="\n\t")
    key = result["key"]
    how = f"as a hexdump: memory show {key}"
    return f"binary, {result['size']} bytes\n{how if local else f'into a file: memory get {key} --output FILE   {how}'}"


def _as_json(shape: str, body: bytes) -> dict[str, Any]:
    """The value as JSON has it; the digits of JSON stay as they were written."""
    if shape == "json":
        return {"encoding": "json", "value": msgspec.Raw(body)}
    return {"encoding": "text", "value": body.decode()} if shape == "text" else {}


def write_file(path: Path, body: bytes) -> None:
    """Write a file whole or not at all. Raises click.FileError."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, prefix=f".{path.name}.", delete=False) as file:
            trial = Path(file.name)
            try:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
                trial.replace(path)
            except OSError:
                trial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise click.FileError(str(path), error.strerror or str(error)) from error


def to_output(body: bytes) -> None:
    """Write bytes to this process's standard output, and nothing else."""
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def _syncing(found: click.Command, _: bool) -> click.Command:
    found.params.append(click.Option(["--no-wait"], is_flag=True, help="Return at once; `job list` shows how it goes."))

    @click.pass_obj
    def run(context: Context, /, as_json: bool, no_wait: bool = False) -> None:
        job = context.client.invoke("sync.run", {})
        if not no_wait:
            if not as_json:
                context.say(f"synchronising, job {job['job_id'][-6:]} …")
            job = context.client.invoke("job.wait", {"job_id": job["job_id"]})
        if as_json:
            context.json(job)
        elif no_wait:
            context.say(f"synchronising; how it goes: job show {job['job_id'][-6:]}")
        elif job["result"]:
            context.say(_runs(job["result"], context))
        if job["state"] not in {"pending", "running", "completed"}:
            raise _failure(job)

    found.callback = run
    return found


def _failure(job: Mapping[str, Any]) -> ApplianceError:
    """Why a synchronisation did not end well, with what to do about the first tier that failed."""
    ill = [run for run in job["result"] or () if run["error"]]
    said = " ".join(run["error"] for run in ill) or job["error"]
    steps = [run["next_step"] for run in ill if run["next_step"]]
    return ApplianceError(f"The synchronisation is {job['state']}: {said}", steps[0] if steps else "see `job list`.")


def _runs(runs: list[dict[str, Any]], context: Context) -> str:
    blocks = [render.draw(memory.run_table(runs), context.width, colour=context.colour)]
    if waiting := sum(run["waiting"] for run in runs):
        told = f"{waiting} conflict{'s wait' if waiting > 1 else ' waits'} for a decision; list: sync conflicts"
        blocks.append(render.draw(Text(told), context.width, colour=context.colour))
    return "\n\n".join(blocks)


MORE: Mapping[str, Callable[[click.Command, bool], click.Command]] = MappingProxyType({
    "memory.get": _getting, "sync.run": _syncing, "model.bench": models.benching,
})  # fmt: skip
