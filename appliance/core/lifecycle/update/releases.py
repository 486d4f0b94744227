"""The releases of a source: which there are for this machine, and what is newer than what runs. All of it blocks."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from packaging.version import InvalidVersion, Version

from appliance.core.lifecycle.update import source as sources
from appliance.core.lifecycle.update.model import Release
from appliance.errors import NotFoundError

log = logging.getLogger(__name__)

NAME = re.compile(r"prime-spark-([0-9A-Za-z.+_-]{1,64})-(amd64|arm64)\.raucb")
Relation = Literal["newer", "equal", "older", "unknown"]


@dataclass(frozen=True)
class Offer:
    """What a source has for this machine.

    Attributes:
        releases: All of them, newest first.
        newest: The one to install; None where nothing is newer than what runs.
        said: What was found, in one sentence.
    """

    releases: tuple[Release, ...]
    newest: Release | None
    said: str


def look(place: str, access: sources.Access, arch: str, running: str) -> Offer:
    """See what a source has.

    Args:
        place: Directory or address.
        access: How it is read, and whose signature counts.
        arch: Of this machine: amd64 or arm64.
        running: Version that runs.

    Raises:
        UpdateError: It cannot be read, or its signature is not good.
    """
    sums = sources.read(place, access)
    source = sources.of(place, access)
    found = offered(sums, source, arch)
    steady = [each for each in found if not _early(each.version) or _early(running)]
    best = next(iter(steady), None)
    newest = best if best is not None and relation(best.version, running) in {"newer", "unknown"} else None
    if newest is not None:
        about = source.about(f"prime-spark-{newest.version}-{arch}.raucb")
        newest = Release(newest.version, arch, newest.place, about.size, newest.sha256, about.changed)
        found = [newest if each.version == newest.version else each for each in found]
    return Offer(tuple(found), newest, _said(sums, best, newest, arch, running))


def newest(place: str, access: sources.Access, arch: str, running: str) -> Release | None:
    """The newest release for this machine; None where nothing is newer than what runs. Raises UpdateError."""
    return look(place, access, arch, running).newest


def offered(sums: dict[str, str], source: sources.Source, arch: str) -> list[Release]:
    """The bundles of a list that are for this machine, newest first; a version that is none is left out (and logged)."""
    found = []
    for name, digest in sums.items():
        match = NAME.fullmatch(name)
        if match is None or match[2] != arch:
            continue
        try:
            found.append((Version(match[1]), Release(match[1], arch, source.place(name), None, digest)))
        except InvalidVersion:
            log.warning("%s has a version that is none, and is left out", name)
    return [release for _, release in sorted(found, key=lambda each: each[0], reverse=True)]


def pick(releases: Iterable[Release], version: str) -> Release:
    """The release of that version. Raises NotFoundError."""
    known = list(releases)
    alike = [each for each in known if each.version == version or relation(each.version, version) == "equal"]
    if alike:
        return next((each for each in alike if each.version == version), alike[0])
    told = ", ".join(each.version for each in known[:8]) or "none for this machine"
    raise NotFoundError(f"The source has no version {version[:64]!r}.", f"it has: {told}. See: prime-spark update check")


def relation(version: str, running: str) -> Relation:
    """How a version stands to the one that runs; unknown where one of them is none."""
    try:
        one, other = Version(version), Version(running)
    except InvalidVersion:
        return "unknown"
    return "equal" if one == other else "newer" if one > other else "older"


def _early(version: str) -> bool:
    """Whether it is a version before the release, such as 1.2.0rc1: offered only to those who run such."""
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return False


def _said(sums: dict[str, str], best: Release | None, newest: Release | None, arch: str, running: str) -> str:
    if newest is not None:
        return f"{newest.version} is newer than {running}, which runs here."
    if best is not None and relation(best.version, running) == "older":
        return f"The newest there is {best.version}, older than {running}, which runs here."
    if best is not None:
        return f"{running} runs here, and nothing is newer."
    others = sorted({match[2] for name in sums if (match := NAME.fullmatch(name)) and match[2] != arch})
    if others:
        return f"Nothing there is for this machine ({arch}); it has bundles for {', '.join(others)}."
    early = [match[1] for name in sums if (match := NAME.fullmatch(name)) and _early(match[1])]
    if early:
        return f"Only versions before a release are there ({', '.join(sorted(early))}); name one to install it."
    return "There is no bundle of a version in the signed list: they are called prime-spark-VERSION-ARCH.raucb."
