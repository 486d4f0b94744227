"""The wheels for one kind of machine: made anew from what is installed here where they fit, else fetched from an index."""

from __future__ import annotations

import glob
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.core.agents import wheel
from appliance.core.agents.target import Target
from appliance.errors import AbsentError, DiskFullError

FETCH = 600.0
"""Seconds that fetching may take."""
SHOWN = 300
"""Characters of pip's complaint."""


class Wheels(msgspec.Struct, frozen=True):
    """Wheels by file name."""

    files: dict[str, bytes]
    fetched: tuple[str, ...] = ()
    """Those that came from an index."""

    def requirements(self) -> str:
        """A requirements file of pip that names each by its hash."""
        rows = []
        for name, data in sorted(self.files.items()):
            library, version, *_ = name.split("-")
            rows.append(f"{library}=={version} --hash=sha256:{hashlib.sha256(data).hexdigest()}")
        return "\n".join([*rows, ""])


def local(target: Target, wanted: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Which libraries can be made anew from what is installed here, and which must be fetched. Blocks.

    Args:
        target: The machine that is to run them.
        wanted: Library → version.
    """
    fits = target.tags()
    here = {name: version for name, version in wanted.items() if fits.intersection(wheel.tags(name))}
    return here, {name: version for name, version in wanted.items() if name not in here}


def gather(target: Target, wanted: Mapping[str, str]) -> Wheels:
    """All wheels for a machine. Blocks, for seconds.

    Raises:
        AbsentError: A library is not whole here, or there is no wheel for that machine in reach.
        DiskFullError: The disk here is full.
    """
    here, missing = local(target, wanted)
    files = dict(wheel.rebuilt(name) for name in here)
    fetched = fetch(target, missing) if missing else {}
    return Wheels(files | fetched, tuple(sorted(fetched)))


def fetch(target: Target, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """Wheels from the index that pip uses here. Blocks.

    Raises:
        AbsentError: There is no pip here, no index in reach, or no wheel for that machine.
    """
    with tempfile.TemporaryDirectory(prefix="prime-spark-wheels-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
                   "--only-binary=:all:", "--dest", folder, "--implementation", "cp",
                   "--python-version", f"{target.python[0]}.{target.python[1]}",
                   *(f"--abi={abi}" for abi in (f"cp{target.python[0]}{target.python[1]}", "abi3", "none")),
                   *(f"--platform={each}" for each in (*target.platforms, "any")),
                   *(f"{name}=={version}" for name, version in wanted.items())]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 this interpreter's own pip
                command, capture_output=True, text=True, timeout=FETCH, check=False, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise _lacking(target, wanted, f"pip did not end within {FETCH:g} s") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"pip ended with {done.returncode}"]
            raise _lacking(target, wanted, " / ".join(lines[-2:])[-SHOWN:])
        return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.whl"))}


def _lacking(target: Target, wanted: Mapping[str, str], why: str) -> AbsentError:
    names = ", ".join(list(wanted)[:4]) + (" …" if len(wanted) > 4 else "")
    step = 'let this appliance reach a package index, or let that machine reach one (agents.libraries = "index").'
    return AbsentError(f"There are no wheels of {names} for {target.words} here: {why}", step)


class Cache:
    """Files by the hash of what they were made of, bounded; the one that was used longest ago goes first. Methods block.

    A file's name ends with its own SHA-256: a power cut, or a bad card, leaves none that would be sent.

    Args:
        folder: Where they lie.
        most: Bytes; the newest one stays even where it is larger.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most

    def get(self, key: str) -> Path | None:
        """The file of a key, and mark it as used; None where there is none, or not as it was put there (it goes then)."""
        for path in self._folder.glob(f"{glob.escape(key)}.*"):
            try:
                if hashlib.sha256(path.read_bytes()).hexdigest() == path.name.rpartition(".")[2]:
                    os.utime(path)
                    return path
                path.unlink()
            except FileNotFoundError:
                continue
        return None

    def put(self, key: str, data: bytes) -> Path:
        """Keep a file. Raises DiskFullError."""
        path, new = self._folder / f"{key}.{hashlib.sha256(data).hexdigest()}", self._folder / f".{key}.new"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_bytes(data)
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            step = "make room there, and do it again."
            raise DiskFullError(f"{path} cannot be written: {error.strerror}.", step) from error
        self._bound(path)
        return path

    def _bound(self, newest: Path) -> None:
        found = sorted((each for each in self._folder.iterdir() if each != newest), key=lambda each: each.stat().st_mtime)
        total = sum(each.stat().st_size for each in (*found, newest))
        for each in found:
            if total <= self._most:
                return
            total -= each.stat().st_size
            each.unlink(missing_ok=True)
