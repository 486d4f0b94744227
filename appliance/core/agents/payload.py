"""What is sent to a machine: one archive of wheels, their list with hashes, and the pip that installs them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

import appliance
from appliance.core.agents import needs, wheel
from appliance.core.agents.target import Target
from appliance.core.agents.wheelhouse import Cache, Wheels, gather
from appliance.errors import AbsentError

FORM = "1"
"""Of the archive and of the installation; another one makes another release of the same code."""


class Release(msgspec.Struct, frozen=True):
    """What of this appliance goes to other machines."""

    name: str
    """VERSION-HASH: the hash is over the package's code and the versions of its libraries."""
    version: str
    wheel: str
    """File name of the package's wheel."""
    code: bytes
    """Its contents."""


class Payload(msgspec.Struct, frozen=True):
    """An archive that is ready to be sent."""

    path: Path
    size: int
    sha256: str
    told: str
    """Whence the libraries come."""


def release(libraries: Mapping[str, str]) -> Release:
    """Of the code that runs here. Blocks, for a second."""
    name, code = wheel.own([f"{each}=={version}" for each, version in libraries.items()])
    text = "\n".join([FORM, *(f"{each}=={version}" for each, version in libraries.items())]).encode()
    digest = hashlib.sha256(code + text).hexdigest()[:12]
    return Release(f"{appliance.__version__}-{digest}", appliance.__version__, name, code)


def build(made: Release, target: Target, cache: Cache, *, index: bool = False, there: bool = False) -> Payload:
    """The archive for one kind of machine, from the cache where it is there. Blocks, for seconds.

    Args:
        made: What is sent.
        target: The machine.
        cache: Keeps archives.
        index: Its libraries come from the machine's own package index: only the package goes.
        there: Its libraries lie there already: only the package goes.

    Raises:
        AbsentError: A wheel that is needed is not in reach; DiskFullError.
    """
    what = repr((made.name, "alone" if index or there else target, pip_version(), libraries_key(target)))
    key = f"{made.version}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.tar"
    path = cache.get(key)
    told = "there already" if there else "from that machine's own package index" if index else "sent from here"
    if path is None:
        wheels = Wheels({}) if index or there else gather(target, needs.closure(target))
        if wheels.fetched:
            told += f", {len(wheels.fetched)} of them fetched for {target.words}"
        path = cache.put(key, archived(made, wheels, needs.closure(target)))
    data = path.read_bytes()
    return Payload(path, len(data), hashlib.sha256(data).hexdigest(), told)


def libraries_key(target: Target) -> str:
    """Of the libraries in their versions, on that kind of machine: equal keys mean that they need not go again. Blocks."""
    return hashlib.sha256(repr((FORM, target, needs.closure(target))).encode()).hexdigest()[:16]


def archived(made: Release, wheels: Wheels, libraries: Mapping[str, str]) -> bytes:
    """The archive; equal contents give equal bytes."""
    pip, tool = wheel.rebuilt("pip")
    every = Wheels({made.wheel: made.code, **wheels.files})
    pinned = "".join(f"{name}=={version}\n" for name, version in libraries.items())
    files = {f"wheels/{name}": data for name, data in every.files.items()}
    files |= {
        f"pip/{pip}": tool, "requirements.txt": every.requirements().encode(), "own.txt": Wheels(
            {made.wheel: made.code}).requirements().encode(), "libraries.txt": pinned.encode(),
    }  # fmt: skip
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def pip_version() -> str:
    """Of the pip that is sent. Raises AbsentError."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pip")
    except PackageNotFoundError:
        step = "install it into the appliance's Python (python -m ensurepip)."
        raise AbsentError("There is no pip here, and it is sent to install the agent.", step) from None
