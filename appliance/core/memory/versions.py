"""Versions of one key as objects side by side: their names, who replaces whom, and what a writer may conclude from it.

Nothing is ever overwritten, so no write of another one can be lost unseen. The name tells all that a listing must tell:
`memory/NAMESPACE/ab/KEY_ID/VERSION.PARENT.CHECKSUM.ATTEMPT[.d]`. ATTEMPT differs each time that a version is written, so
that a deletion which a hung server carries out late can only hit the attempt that it was meant for.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterable

import msgspec

from appliance.core.memory.keys import key_id
from appliance.core.memory.model import Head, Meta

ROOT = "memory/"
NONE = "0"
"""Stands for "no parent"."""
SHORT = 32
"""Digits of the checksum in a name."""
NAME = re.compile(
    r"memory/(?P<namespace>[a-z0-9][a-z0-9_.-]{0,62})/(?P<dir>[0-9a-f]{2})/(?P<key_id>[0-9a-f]{32})/"
    r"(?P<version>[0-9a-f]{32})\.(?P<parent>0|[0-9a-f]{32})\.(?P<checksum>[0-9a-f]{32})\.(?P<attempt>[0-9a-f]{12})(?P<deleted>\.d)?"
)


class Entry(msgspec.Struct, frozen=True):
    """One object, as its name and the listing tell."""

    name: str
    namespace: str
    key_id: str
    version: str
    parent: str
    checksum: str
    """The first 32 digits of what it says; see `said`."""
    attempt: str
    deleted: bool
    size: int = 0
    """Bytes stored."""
    modified: float = 0.0
    """The server's clock, seconds since the epoch."""

    @property
    def order(self) -> tuple[str, str]:
        """Later versions, and later attempts at the same, are greater."""
        return self.version, self.attempt

    def head(self) -> Head:
        """As a listing shows it; the time is the one in the version (UUID version 7) where it has one."""
        return Head(
            key_id=self.key_id,
            version=self.version,
            parent=self.parent,
            checksum=self.checksum,
            size=self.size,
            modified=int(self.version[:12], 16) / 1000 if self.version[12] == "7" else self.modified,
            deleted=self.deleted,
        )


class View(msgspec.Struct, frozen=True):
    """What a writer concludes from a listing taken after its own object was written."""

    mine: bool
    """Whether its object is (still) there."""
    same: bool
    """Whether another head says the same."""
    rivals: tuple[Entry, ...]
    """Newest versions that it does not replace, and those that replace it."""
    replaced: tuple[Entry, ...]
    """What may go once the write stands: the oldest first, so that a cut in between leaves no false head."""


def folder(namespace: str, identifier: str) -> str:
    """The prefix of a key's objects."""
    return f"{ROOT}{namespace}/{identifier[:2]}/{identifier}/"


def said(meta: Meta) -> str:
    """What tells whether two versions say the same: the checksum, with expiry (in microseconds) and tags if it has any."""
    if meta.deleted or (meta.expires is None and not meta.tags):
        return meta.checksum
    expires = None if meta.expires is None else round(meta.expires * 1_000_000)
    return hashlib.sha256(msgspec.json.encode((meta.checksum, expires, sorted(set(meta.tags))))).hexdigest()


def entry_for(meta: Meta, parent: str) -> Entry:
    """A new attempt to write a version that replaces `parent` (empty for none)."""
    attempt = f"{time.time_ns() // 1_000_000 & 0xFFFFFFFF:08x}{secrets.token_hex(2)}"
    identifier = key_id(meta.namespace, meta.key)
    checksum = said(meta)[:SHORT]
    name = f"{folder(meta.namespace, identifier)}{meta.version}.{parent or NONE}.{checksum}.{attempt}" + ".d" * meta.deleted
    return Entry(name, meta.namespace, identifier, meta.version, parent, checksum, attempt, meta.deleted)


def parse(name: str, size: int = 0, modified: float = 0.0) -> Entry | None:
    """The entry that an object's name tells of; None where it is none of ours."""
    match = NAME.fullmatch(name)
    if match is None or not match["key_id"].startswith(match["dir"]):
        return None
    parent = "" if match["parent"] == NONE else match["parent"]
    return Entry(
        name,
        match["namespace"],
        match["key_id"],
        match["version"],
        parent,
        match["checksum"],
        match["attempt"],
        match["deleted"] is not None,
        size,
        modified,
    )


def heads(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that no other one replaces, the latest attempt at each version, greatest first.

    Of versions that replace each other in a circle, one is a head: the greatest. So there is always one.
    """
    found = list(entries)
    newest = {entry.version: entry for entry in sorted(found, key=lambda entry: entry.order)}
    parents = {entry.parent for entry in found if entry.parent != entry.version}
    tops = {version for version in newest if version not in parents}
    rest = newest.keys() - ancestors(found, tops)
    while rest:  # whoever reaches most of them is in the circle, not before it
        top = max(rest, key=lambda version: (len(ancestors(found, {version}) & rest), version))
        tops.add(top)
        rest -= ancestors(found, {top})
    return sorted((newest[version] for version in tops), key=lambda entry: entry.order, reverse=True)


def ancestors(entries: Iterable[Entry], known: Iterable[str]) -> set[str]:
    """Versions in `known`, and what they replaced as far as the entries tell."""
    parents: dict[str, set[str]] = {}
    for entry in entries:
        parents.setdefault(entry.version, set()).add(entry.parent)
    found: set[str] = set()
    pending = {version for version in known if version}
    while pending:
        version = pending.pop()
        found.add(version)
        pending |= {parent for parent in parents.get(version, set()) if parent and parent not in found}
    return found


def judge(entries: Iterable[Entry], mine: Entry, known: frozenset[str]) -> View:
    """What the writer of `mine`, who knew of the versions in `known` and replaces them, finds in a listing.

    A twin of a known version (it says the same and was written beside it, not after it) counts as known.
    """
    found = list(entries)
    others = [entry for entry in found if entry.version != mine.version]
    old = ancestors(others, known) - {mine.version}
    known_sums = {entry.checksum for entry in others if entry.version in known}
    rivals, same = [], False
    for entry in heads(found):
        before = ancestors(others, {entry.version})
        if entry.version in old or entry.version == mine.version:
            continue
        if entry.checksum in known_sums and not before & known:
            old.add(entry.version)
        elif entry.checksum == mine.checksum and mine.version not in before:
            same = True
        else:
            rivals.append(entry)
    return View(any(entry.name == mine.name for entry in found), same, tuple(rivals), _replaced(found, mine, old))


def _replaced(found: list[Entry], mine: Entry, old: set[str]) -> tuple[Entry, ...]:
    """Of several that say the same only the greatest may remove the others: two can never remove each other."""
    gone = [entry for entry in found if entry.version in old or (entry.checksum == mine.checksum and entry.order < mine.order)]
    return tuple(sorted(gone, key=lambda entry: (entry.version == mine.parent, entry.order)))
