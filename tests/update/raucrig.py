"""A machine with two slots, a boot partition and RAUC's own service on a bus of its own: all of it files of one directory.

Nothing here can restart, mount over or write anything of the machine that runs the tests: slots are files, bundles are mounted
in a mount namespace of RAUC's own, and what is to restart it only notes that it was asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from appliance.core.jobs import Jobs
from appliance.core.lifecycle.update import bootslots
from appliance.core.lifecycle.update.book import Book
from appliance.core.lifecycle.update.bootslots import Places
from appliance.core.lifecycle.update.choice import Choice
from appliance.core.lifecycle.update.choicefiles import GrubStore
from appliance.core.lifecycle.update.desk import Desk
from appliance.core.lifecycle.update.ground import Ground
from appliance.core.lifecycle.update.image import Image
from appliance.core.lifecycle.update.rauc import Rauc
from appliance.core.lifecycle.update.shop import Shop
from appliance.core.model import Actor, Health, Phase, ServiceStatus, Severity
from appliance.core.state import LiveState
from appliance.core.store import Store
from appliance.settingupdate import UpdateSettings
from tests.support import ManualClock, needs_program, wait_for

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={root}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""
SYSTEM = """[system]
compatible=prime-spark-amd64
bootloader=custom
statusfile={root}/status.raucs
mountprefix={root}/mnt
[keyring]
path={ca}
[handlers]
bootloader-custom-backend={root}/backend
"""
SLOT = """[slot.rootfs.{n}]
device={root}/system-{s}.img
type=raw
bootname={b}
[slot.bootfs.{n}]
device={root}/boot-{s}.img
type=raw
parent=rootfs.{n}
"""
BACKEND = """#!/bin/sh
set -eu
echo "$*" >> "{root}/calls"
while [ -e "{root}/hold-$1" ]; do sleep 0.05; done
{quick}
cd {here}
exec {python} -S -m appliance.core.lifecycle.update.bootslots --boot "{root}/firmware" --run "{root}/run" \\
    --cmdline "{root}/cmdline" "$@"
"""
QUICK = """value() {{ sed -n "s/^$1=//p" "{root}/firmware/EFI/BOOT/grubenv"; }}
primary() {{ if [ "$(value left)" = 1 ]; then value trial; else value committed; fi; }}
case "$1" in
get-primary) primary; exit ;;
get-state) if [ "$2" = "$(value committed)" ] || [ "$2" = "$(primary)" ]; then echo good; else echo bad; fi; exit ;;
esac"""
"""Answers RAUC's questions as the program does, for tests that ask often: Python takes 40 ms of a processor each time."""
SYSTEM_SIZE, BOOT_SIZE = 192 << 10, 64 << 10
HERE = Path(__file__).parents[2]


def service(name: str, health: Health = Health.healthy, reason: str = "", phase: Phase = Phase.running) -> ServiceStatus:
    """A service as the supervisor would tell of it."""
    return ServiceStatus(name, name, phase, health, reason or health.value)


@dataclass
class Recorded:
    """What was asked for and told: a restart, events, rows of the audit."""

    restarts: int = 0
    refuses: Exception | None = None
    events: list[tuple[str, Severity, dict[str, Any]]] = field(default_factory=list)
    rows: list[tuple[str, str]] = field(default_factory=list)
    backups: list[str] = field(default_factory=list)

    async def restart(self) -> str:
        """Note it (implements ports.Restarter)."""
        if self.refuses is not None:
            raise self.refuses
        self.restarts += 1
        return "noted"

    async def tell(self, event: str, severity: Severity, facts: dict[str, Any]) -> None:
        self.events.append((event, severity, facts))

    async def record(self, actor: Actor, action: str, args: dict[str, Any], outcome: str, detail: str) -> None:
        """A row of the audit."""
        self.rows.append((action, detail))

    async def backup(self, owner: str) -> str:
        self.backups.append(owner)
        return "a backup was made"

    @property
    def kinds(self) -> list[str]:
        """Names of the events."""
        return [name for name, _, _ in self.events]


class Machine:
    """It.

    Args:
        root: Its directory.
        ca: Certificate that its bundles must be signed below.
        quick: RAUC's questions are answered by a few lines of shell; what changes the choice is the program itself.
    """

    def __init__(self, root: Path, ca: Path, *, quick: bool) -> None:
        self.take_over(root)
        for name in ("firmware/EFI/BOOT", "mnt", "run", "data"):
            (root / name).mkdir(parents=True)
        slots = "".join(SLOT.format(n=n, s=s, b=s.upper(), root=root) for n, s in enumerate("ab"))
        (root / "system.conf").write_text(SYSTEM.format(root=root, ca=ca) + slots)
        (root / "bus.conf").write_text(BUS.format(root=root))
        answers = QUICK.format(root=root) if quick else ""
        (root / "backend").write_text(BACKEND.format(root=root, here=HERE, python=sys.executable, quick=answers))
        (root / "backend").chmod(0o755)
        for each in "ab":
            (root / f"system-{each}.img").write_bytes(bytes(SYSTEM_SIZE))
            (root / f"boot-{each}.img").write_bytes(bytes(BOOT_SIZE))
        self.runs("A", "1.0.0")
        for path, content in GrubStore(self.places.boot).files(Choice("A", good="A")):
            path.write_bytes(content)

    def take_over(self, root: Path) -> None:
        """Be the one that lies there already; RAUC runs already, or not."""
        self.root, self.noted, self.clock = root, Recorded(), ManualClock()
        self.services = [service("store"), service("kafka", Health.absent), service("voice")]
        self._bus: subprocess.Popen[bytes] | None = None
        self._rauc: subprocess.Popen[bytes] | None = None
        self.places = Places(root / "firmware", root / "run", root / "cmdline")
        self.environ = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={root}/bus"}

    def runs(self, slot: str, version: str) -> None:
        """Say what this start came from."""
        (self.root / "cmdline").write_text(f"root=PARTLABEL=system-{slot.lower()} ro rauc.slot={slot} panic=10\n")
        (self.root / "os-release").write_text(f'IMAGE_ID=prime-spark\nIMAGE_VERSION="{version}"\nVARIANT_ID=amd64\n')

    def boots(self, *words: str) -> int:
        """A command of the boot choice's program, as one of the image's units would call it."""
        given = ["--boot", str(self.places.boot), "--run", str(self.places.run), "--cmdline", str(self.places.cmdline)]
        return bootslots.main([*given, *words])

    @property
    def choice(self) -> Choice:
        """As it lies on the boot partition."""
        return GrubStore(self.places.boot).read()[0]

    def next_start(self, versions: dict[str, str]) -> str:
        """What GRUB and the first programs do; the slot that runs then."""
        now = self.choice
        slot = now.trial if now.left else now.committed
        if now.left:
            path = self.places.boot / "EFI/BOOT/grubenv"
            path.write_bytes(path.read_bytes().replace(b"left=1", b"left=0"))
        self.end_rauc()
        self.runs(slot, versions[slot])
        self.boots("started")
        self.start_rauc()
        return slot

    def start_rauc(self) -> None:
        """The bus and the service; the mounts of the service are its own and go with it."""
        if self._bus is None:
            command = [
                needs_program("dbus-daemon"),
                f"--config-file={self.root}/bus.conf",
                "--nofork",
                "--nopidfile",
                "--print-address",
            ]
            self._bus = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert self._bus.stdout is not None
            assert self._bus.stdout.readline()  # it listens: RAUC ends at once where nobody does
        slot = (self.root / "cmdline").read_text().partition("rauc.slot=")[2][0]
        private = [needs_program("unshare"), "--mount", "--propagation", "private"]
        command = [*private, needs_program("rauc"), "-c", f"{self.root}/system.conf", "service", f"--override-boot-slot={slot}"]
        with (self.root / "rauc.log").open("ab") as log:
            self._rauc = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, start_new_session=True)

    async def up(self) -> None:
        """Return when RAUC answers."""
        from appliance.core.lifecycle.update.faults import ServiceAwayError

        async def answers() -> bool:
            try:
                await self.rauc.status()
            except ServiceAwayError:
                return False
            return True

        await wait_for(answers, 20, every=0.1)

    def end_rauc(self, *, kill: bool = False) -> None:
        """End the service, or kill it as a cut of the power would."""
        if self._rauc is not None:
            os.killpg(self._rauc.pid, signal.SIGKILL if kill else signal.SIGTERM)  # with the backend that it may have called
            self._rauc.wait()
            self._rauc = None

    def close(self) -> None:
        """End all."""
        for held in self.root.glob("hold-*"):
            held.unlink()
        self.end_rauc()
        if self._bus is not None:
            self._bus.terminate()
            self._bus.communicate()

    def hold(self, command: str) -> Path:
        """Have RAUC's backend stop at this command until the file is removed."""
        path = self.root / f"hold-{command}"
        path.touch()
        return path

    async def reached(self, call: str) -> None:
        """Return when the backend was called with these words."""
        await wait_for(lambda: call in (self.root / "calls").read_text().splitlines(), 20)

    @property
    def rauc(self) -> Rauc:
        return Rauc(self.environ, conf=self.root / "system.conf")

    def ground(self, **settings: Any) -> Ground:
        """What the appliance stands on here, new as after a start."""
        wanted = UpdateSettings(**settings)
        image, data = Image(self.places, self.root / "os-release"), self.root / "data"
        return Ground(
            wanted, image, self.rauc, Book(data / "update.json"), Shop(wanted, data / "updates"), self.noted, self.noted.backup,
            lambda: tuple(self.services), self.clock, self.noted.tell, self.noted,
        )  # fmt: skip

    @asynccontextmanager
    async def desk(self, **settings: Any) -> AsyncIterator[Desk]:
        """The desk at work, new as after a start."""
        store, state = Store(self.root / "data/appliance.sqlite"), LiveState(self.clock)
        await asyncio.to_thread(store.open)
        jobs = Jobs(store, state, self.clock)
        desk = Desk(self.ground(**settings), jobs, state, look=0.02, again=0.3)
        await desk.open()
        running = asyncio.create_task(desk.run())
        try:
            yield desk
        finally:
            running.cancel()
            await asyncio.wait({running})
            await jobs.stop(5)
            store.close()
        assert running.cancelled(), running.exception()


def make_keys(home: Path, name: str, issuer: Path | None = None) -> Path:
    """A key and its certificate; where no issuer is given, it signs itself. The certificate's path."""
    tool, cert, key = needs_program("openssl"), home / f"{name}.pem", home / f"{name}.key"
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key), "-subj", f"/CN={name}"]
    if issuer is None:
        _run(tool, "req", "-x509", *new, "-out", str(cert), "-days", "3650")
        return cert
    _run(tool, "req", *new, "-out", str(home / "request"))
    given = ["-CA", str(issuer), "-CAkey", str(issuer.with_suffix(".key")), "-set_serial", "2", "-days", "3650"]
    _run(tool, "x509", "-req", "-in", str(home / "request"), *given, "-out", str(cert))
    return cert


def content_of(fill: int, size: int) -> bytes:
    """What bundles bring: the same for the same number, and not to be compressed."""
    return random.Random(fill).randbytes(size)


def make_bundle(path: Path, cert: Path, version: str, compatible: str = "prime-spark-amd64", fill: int = 1) -> Path:
    """A bundle in the format `plain`: `verity` takes a device mapper, which the machines of tests may not have."""
    content = path.with_suffix(".content")
    content.mkdir()
    (content / "root.img").write_bytes(content_of(fill, SYSTEM_SIZE))
    (content / "boot.vfat").write_bytes(content_of(fill + 1, BOOT_SIZE))
    (content / "manifest.raucm").write_text(
        f"[update]\ncompatible={compatible}\nversion={version}\n[bundle]\nformat=plain\n"
        "[image.rootfs]\nfilename=root.img\n[image.bootfs]\nfilename=boot.vfat\n"
    )
    _run(needs_program("rauc"), "bundle", f"--cert={cert}", f"--key={cert.with_suffix('.key')}", str(content), str(path))
    shutil.rmtree(content)
    return path


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Bundles:
    """Made once.

    Attributes:
        home: Their directory.
        ca: What machines trust.
    """

    home: Path
    ca: Path

    def __getitem__(self, name: str) -> Path:
        return self.home / f"{name}.raucb"


def make_bundles(home: Path) -> Bundles:
    """Good ones and every kind of bad one."""
    ca, foreign = make_keys(home, "ca"), make_keys(home, "foreign")
    ours = make_keys(home, "ours", ca)
    good = make_bundle(home / "good.raucb", ours, "2.0.0", fill=1)
    make_bundle(home / "newer.raucb", ours, "3.0.0", fill=3)
    make_bundle(home / "older.raucb", ours, "0.9.0", fill=5)
    make_bundle(home / "same.raucb", ours, "1.0.0", fill=5)
    make_bundle(home / "foreign.raucb", foreign, "2.0.0")
    make_bundle(home / "other.raucb", ours, "2.0.0", compatible="prime-spark-arm64")
    raw = good.read_bytes()
    payload = len(raw) - 8 - int.from_bytes(raw[-8:], "big")
    (home / "truncated.raucb").write_bytes(raw[: payload // 2])
    (home / "unsigned.raucb").write_bytes(raw[:payload])
    (home / "altered.raucb").write_bytes(raw[:5000] + bytes(each ^ 0xFF for each in raw[5000:5100]) + raw[5100:])
    (home / "text.raucb").write_text("no bundle\n")
    return Bundles(home, ca)


@contextlib.contextmanager
def machine(root: Path, bundles: Bundles, *, quick: bool) -> Iterator[Machine]:
    """A machine whose RAUC runs. It mounts bundles, which only root may: elsewhere its tests are skipped."""
    if os.geteuid() != 0:
        pytest.skip("RAUC mounts bundles: that takes root")
    found = Machine(root, bundles.ca, quick=quick)
    try:
        found.start_rauc()
        yield found
    finally:
        found.close()
