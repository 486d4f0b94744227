"""A file of this machine, put on nodes as an operation: compared by its hash, tried on some first, and taken back."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import posixpath
from typing import Any

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.files.copy import Copier
from appliance.core.fleet.files.local import LocalSide, hash_of
from appliance.core.fleet.files.model import Kind as What
from appliance.core.fleet.files.progress import Count, Pace, size
from appliance.core.fleet.files.remote import opened
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.model import Actor, Role
from appliance.errors import ApplianceError, InvalidArgumentsError, ShellError

PATH = r"^/[^\x00]*[^/\x00]$"
KEPT = ".spark-before"
"""How the name of the file of before ends, beside the one that took its place; the next put replaces it."""
KEEP = 'cp -p -- "$1" "$2.new" && mv -f -- "$2.new" "$2"'
BACK = r"""
target=$1; kept=$2; wanted=$3
if [ -z "$wanted" ]; then rm -f -- "$target"; exit; fi
[ "$(sha256sum <"$kept" | cut -d' ' -f1)" = "$wanted" ] || { echo 'the file of before is not kept any more' >&2; exit 66; }
mv -f -- "$kept" "$target"
"""
LONG = 3600.0
"""Seconds that a copy may take."""


class Putting(Params):
    """Which file, and where it goes."""

    source: str = Field(pattern=PATH, max_length=4096, description="File on this machine, its whole path")
    target: str = Field(pattern=PATH, max_length=4000, description="Whole path that it gets on the nodes, its name too")


class Put(Kind):
    """Put a file on nodes; who is asked for a plan sees whether it is another one there."""

    name, summary, params = "files.put", "Put a file on nodes, some first, and back where it goes wrong", Putting
    role, limit = Role.admin, LONG

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"put {posixpath.basename(args.source)} at {args.target}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        here, length = await _here(host, args.source)
        async with opened(host.shell, host.name) as side:
            target = await side.resolve(args.target)
            found = await side.stat(target)
            if found is not None and found.kind is not What.file:
                return Look(refuse=f"{target} is a {found.kind} there.", next_step="name the file itself.")
            if found is None and await side.stat(posixpath.dirname(target)) is None:
                return Look(refuse=f"there is no folder {posixpath.dirname(target)}.", next_step="make it first.")
            there = (await side.sha256([target])).get(target) if found is not None else ""
        if there is None:
            return Look(refuse=f"{target} cannot be read there.", next_step="look at its rights.")
        before = f"- {target} {there[:12]} ({size(found.size)})\n" if found is not None else ""
        diff = "" if there == here else f"{before}+ {target} {here[:12]} ({size(length)})"
        return Look(found={"target": target, "there": there, "here": here}, diff=diff, undo={})

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        target, limit = look.found["target"], max(host.limit, LONG)
        if look.found["there"]:
            await host.do(KEEP, target, _kept(target), limit=limit)
        async with opened(host.shell, host.name) as side:
            host.acted = True
            copier = Copier(_side(host), side, Count(lambda: None), Pace(None))
            try:
                async with asyncio.timeout(limit):
                    sent, _ = await copier.one(await asyncio.to_thread(_admitted, host, args.source), target)
            except TimeoutError:
                raise ShellError(f"{host.name} did not take {target} within {limit:g} s.", "look at its link.") from None
        if sent.sha256 != look.found["here"]:
            raise host.failed(f"{args.source} is another file here than when this was planned", next_step="plan it anew.")
        host.say(f"{target}: {size(sent.moved)}, SHA-256 {sent.sha256}")
        return f"{size(sent.moved)} put there, proven by their hash"

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        target = look.found["target"]
        async with opened(host.shell, host.name) as side:
            there = await side.sha256([target]) if await side.stat(target) is not None else {}
        return "" if there.get(target) == look.found["here"] else f"{target} is not what was put there any more"

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        target = look.found["target"]
        await host.do(BACK, target, _kept(target), look.found["there"], limit=max(host.limit, LONG))


def _kept(target: str) -> str:
    folder, name = posixpath.split(target)
    return posixpath.join(folder, f".{name[:120]}{KEPT}")


def _admitted(host: Host, path: str) -> str:
    if host.places is None:
        raise InvalidArgumentsError("No file of this machine may be copied here.", "start the appliance with its folders.")
    return host.places.to_read(path, Actor("operations", Role.admin, "operation"))


def _side(host: Host) -> LocalSide:
    return LocalSide() if host.places is None else host.places.side()


async def _here(host: Host, path: str) -> tuple[str, int]:
    """Hash and length of a file here. Raises CommandFailedError."""
    try:
        real = await asyncio.to_thread(_admitted, host, path)
        found = await asyncio.to_thread(os.stat, real)
        return await asyncio.to_thread(_summed, real, found.st_size, found.st_mtime_ns, found.st_ino), found.st_size
    except OSError as error:
        raise host.failed(f"{path} here: {error.strerror or error}", next_step="name a file that is there.") from error
    except ApplianceError as error:
        raise host.failed(error.message, next_step=error.next_step) from error


@functools.lru_cache(maxsize=8)
def _summed(path: str, length: int, modified: int, inode: int) -> str:
    """Of one version of a file: many nodes are compared with it."""
    del length, modified, inode
    return hash_of(path, -1, hashlib.sha256()).hexdigest()


KINDS = (Put(),)
