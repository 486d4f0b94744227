"""RAUC, asked through its command line: it writes the slots, as root; this program asks for it over D-Bus."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from appliance.core.lifecycle.update.faults import BusyError, ServiceAwayError, explain
from appliance.errors import AbsentError, UpdateError

PROGRAM = "rauc"
ASKING = 60.0
"""Seconds for a question, a mark."""
READING = 600.0
"""Seconds for the look at a bundle, whose signature may cover all of it."""
PROGRESS = re.compile(rb"^\s*(\d{1,3})% (.+)$")
PASSED = ("PATH", "HOME", "DBUS_SYSTEM_BUS_ADDRESS", "DBUS_STARTER_BUS_TYPE")
LINE = 1 << 20
"""Bytes of a line: its JSON is one."""
TOLD = 20
"""Last lines that are kept."""
Mark = Literal["good", "bad", "active"]
Report = Callable[[float, str], None]


class RaucSlot(msgspec.Struct, frozen=True):
    """One partition as RAUC knows it."""

    name: str
    """Such as rootfs.0."""
    kind: str
    """rootfs or bootfs."""
    device: str
    bootname: str
    """A or B; that of the parent where it has none."""
    state: str
    """booted, active or inactive."""
    version: str | None = None
    sha256: str | None = None
    size: int | None = None
    """Bytes that were written into it."""
    installed: float | None = None
    status: str = ""
    """ok, or pending while it is written; empty where RAUC never wrote it."""


class RaucStatus(msgspec.Struct, frozen=True):
    """The system as RAUC knows it."""

    compatible: str
    booted: str
    """Name by which it was booted: A or B."""
    primary: str | None
    slots: tuple[RaucSlot, ...]

    def of(self, bootname: str) -> tuple[RaucSlot, ...]:
        """The partitions of one slot."""
        return tuple(each for each in self.slots if each.bootname == bootname)


class Bundle(msgspec.Struct, frozen=True):
    """What a bundle says of itself; its signature was verified."""

    compatible: str
    version: str
    size: int
    """Bytes of its images."""


class Rauc:
    """Calls of the program. Each raises UpdateError and those below it; AbsentError without the program.

    Args:
        environ: This process's environment; little of it is handed on.
        keyring: Certificate that bundles are looked at with; None: that of RAUC's own configuration.
        conf: RAUC's configuration; None: its own place.
    """

    def __init__(self, environ: Mapping[str, str], keyring: Path | None = None, conf: Path | None = None) -> None:
        self._environ = environ
        self._keyring = keyring
        self._conf = conf

    def missing(self) -> bool:
        """Whether the program is not installed."""
        return shutil.which(PROGRAM, path=self._environ.get("PATH")) is None

    async def status(self) -> RaucStatus:
        """The slots."""
        said = await self._run(["status", "--detailed", "--output-format=json"], ASKING)
        return read_status(said)

    async def info(self, bundle: Path) -> Bundle:
        """A bundle whose signature this machine trusts. Raises RefusedError where it is not one."""
        given = [
            *(["--conf", str(self._conf)] if self._conf else []),
            *(["--keyring", str(self._keyring)] if self._keyring else []),
        ]
        return read_bundle(await self._run([*given, "info", "--output-format=json", str(bundle)], READING))

    async def install(self, bundle: Path, limit: float, report: Report) -> None:
        """Write a bundle into the slot that does not run, and have the next start try it.

        Args:
            bundle: A file that root can read.
            limit: Longest time, seconds. What RAUC is doing then goes on without us.
            report: Told 0…1 and what is done.
        """

        def take(line: bytes) -> None:
            if found := PROGRESS.match(line):
                report(int(found[1]) / 100, found[2].decode(errors="replace").rstrip("."))

        await self._run(["install", str(bundle)], limit, take)

    async def mark(self, state: Mark, slot: str = "booted") -> None:
        """Mark a slot: booted, other, or by its name (rootfs.0)."""
        await self._run(["status", f"mark-{state}", slot], ASKING)

    async def busy(self) -> bool:
        """Whether RAUC is at work for somebody. Raises UpdateError where it does not answer."""
        try:
            await self.status()
        except BusyError:
            return True
        return False

    async def _run(self, words: list[str], limit: float, take: Callable[[bytes], None] | None = None) -> bytes:
        program = shutil.which(PROGRAM, path=self._environ.get("PATH"))
        if program is None:
            raise AbsentError("rauc is not installed; it writes updates.", "flash our image, which has it.")
        environ = {**{name: self._environ[name] for name in PASSED if name in self._environ}, "LC_ALL": "C.UTF-8"}
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            child = await asyncio.create_subprocess_exec(
                program, *words, stdin=none, stdout=pipe, stderr=pipe, env=environ, limit=LINE
            )
        except OSError as error:
            raise UpdateError(f"rauc cannot be run: {error.strerror}.", "see the log of the appliance.") from error
        try:
            async with asyncio.timeout(limit):
                out, said = await _read(child, take)
                code = await child.wait()
        except TimeoutError as error:
            what = f"RAUC did not end `{words[0]}` within {limit:g} s."
            raise ServiceAwayError(what, "see journalctl -u rauc; what it does goes on without us.") from error
        finally:
            await _end(child)
        if code:
            raise explain(words[0], "\n".join((*out.decode(errors="replace").splitlines()[-TOLD:], said)))
        return out


async def _read(child: asyncio.subprocess.Process, take: Callable[[bytes], None] | None) -> tuple[bytes, str]:
    """(what it said, the end of what it complained of)."""
    lines: list[bytes] = []

    async def said() -> None:
        assert child.stdout is not None
        async for line in child.stdout:
            lines.append(line)
            if take is not None:
                take(line)

    async def complained() -> deque[bytes]:
        assert child.stderr is not None
        found: deque[bytes] = deque(maxlen=TOLD)
        async for line in child.stderr:
            found.append(line)
        return found

    _, last = await asyncio.gather(said(), complained())
    return b"".join(lines), b"".join(last).decode(errors="replace")


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def read_status(said: bytes) -> RaucStatus:
    """The answer of `rauc status`. Raises UpdateError."""
    try:
        found = msgspec.json.decode(said[max(said.find(b"{"), 0) :])
        flat = {name: facts for each in found["slots"] for name, facts in each.items()}
        slots = tuple(_slot(name, facts, flat) for name, facts in sorted(flat.items()))
        return RaucStatus(found["compatible"], found["booted"] or "", found["boot_primary"], slots)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UpdateError(
            f"The answer of `rauc status` cannot be read: {error!r}.", "see rauc --version: 1.8 to 1.13."
        ) from error


def _slot(name: str, facts: dict[str, Any], flat: dict[str, dict[str, Any]]) -> RaucSlot:
    parent = flat.get(facts.get("parent") or "", {})
    status = facts.get("slot_status") or {}
    checksum, installed = status.get("checksum") or {}, status.get("installed") or {}
    return RaucSlot(
        name, facts["class"], facts["device"], facts.get("bootname") or parent.get("bootname") or "", facts["state"],
        (status.get("bundle") or {}).get("version"), checksum.get("sha256"), checksum.get("size"),
        _moment(installed.get("timestamp")), status.get("status") or "",
    )  # fmt: skip


def _moment(text: str | None) -> float | None:
    if not text:
        return None
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def read_bundle(said: bytes) -> Bundle:
    """The answer of `rauc info`. Raises UpdateError."""
    try:
        found = msgspec.json.decode(said[max(said.find(b"{"), 0) :])
        images = [facts for each in found["images"] for facts in each.values()]
        return Bundle(found["compatible"], found.get("version") or "", sum(int(each["size"]) for each in images))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UpdateError(
            f"The answer of `rauc info` cannot be read: {error!r}.", "see rauc --version: 1.8 to 1.13."
        ) from error
