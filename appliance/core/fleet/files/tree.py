"""Everything below a folder of one end."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping, Sequence

import msgspec

from appliance.core.fleet.files.globs import Chosen
from appliance.core.fleet.files.model import Entry, Kind, Side, is_part
from appliance.errors import InvalidArgumentsError, NotFoundError

MOST = 200_000
"""Names in one tree."""
DEEPEST = 100
PARALLEL = 8
"""Folders that are listed at one time."""


async def tree(side: Side, root: str, wanted: Chosen, *, absent: bool = False) -> dict[str, Entry]:
    """Path below the folder → entry; no link is followed, and unfinished copies are left out.

    Args:
        side: The end.
        root: The folder.
        wanted: What of it is meant.
        absent: Nothing is told of a folder that is not there.

    Raises:
        NotFoundError: It is not there.
        InvalidArgumentsError: It is no folder, or too large.
    """
    top = await side.stat(root)
    if top is not None and top.kind is Kind.link:
        root = await side.resolve(root)
        top = await side.stat(root)
    if top is None:
        if absent:
            return {}
        raise NotFoundError(f"There is no folder {root} on {side.name}.", "look for the right name.")
    if top.kind is not Kind.folder:
        raise InvalidArgumentsError(f"{root} on {side.name} is a {top.kind}, not a folder.", "use put or get for one file.")
    found: dict[str, Entry] = {}
    level = [""]
    for _ in range(DEEPEST):
        if not level:
            return found
        level = await _level(side, root, level, wanted, found)
    raise InvalidArgumentsError(f"{root} on {side.name} is more than {DEEPEST} folders deep.", "exclude what is too deep.")


async def _level(side: Side, root: str, folders: list[str], wanted: Chosen, found: dict[str, Entry]) -> list[str]:
    """Everything in these folders; the folders among it."""
    below = []
    for start in range(0, len(folders), PARALLEL):
        some = folders[start : start + PARALLEL]
        for folder, entries in zip(some, await asyncio.gather(*(side.list(under(root, each)) for each in some)), strict=True):
            new = _meant(folder, entries, wanted)
            found.update(new)
            below += [path for path, entry in new.items() if entry.kind is Kind.folder]
        if len(found) > MOST:
            raise InvalidArgumentsError(f"{root} on {side.name} has more than {MOST} names.", "copy its folders one by one.")
    return below


def _meant(folder: str, entries: Sequence[Entry], wanted: Chosen) -> Mapping[str, Entry]:
    found = {}
    for entry in entries:
        path = f"{folder}/{entry.path}" if folder else entry.path
        if not is_part(entry.path) and wanted.takes(path, folder=entry.kind is Kind.folder):
            found[path] = msgspec.structs.replace(entry, path=path)
    return found


def under(root: str, path: str) -> str:
    """A path of the tree as one of its end."""
    return posixpath.join(root, path) if path else root
