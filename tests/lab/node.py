"""One node as the keeper has it: started, watched, killed, started again where it rebooted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from tests.lab import base, box, cgroups
from tests.lab.inside.main import REBOOT
from tests.lab.plan import Plan
from tests.lab.wires import Wires

CHECKOUT = Path(__file__).resolve().parents[2]
STARTS = 60.0
"""Seconds that a node may take on a busy machine."""


class NodeError(Exception):
    """A node did not come up."""


class LabNode:
    """A node.

    Args:
        plan: Who it is.
        folder: Of its own, in memory: what it changes outlives its reboots, and not the lab.
        log: What its process 1 says goes there.
        wires: Its network.
        shared: The layer that all nodes have in common.
        binds: Folders of the machine that it sees: source, place, whether it may write there.
    """

    def __init__(
        self, plan: Plan, folder: Path, log: Path, wires: Wires, shared: Path, binds: list[tuple[str, str, bool]]
    ) -> None:
        self.plan, self.folder, self.log, self._wires, self._binds = plan, folder, log, wires, binds
        self.shared = shared
        self.state, self.boots, self.init = "off", 0, 0
        self.fingerprint = ""
        self.services: list[str] = []
        """Units that are expected to run there, besides its SSH server."""
        self.cgroup = f"{cgroup_prefix(log.parent)}{plan.name}"
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._layers = self._make_layers()

    @property
    def top(self) -> Path:
        """Where its own files lie."""
        return self.folder / "upper"

    def _make_layers(self) -> list[dict[str, str]]:
        (self.folder / "root").mkdir(parents=True)
        layers = []
        for number, place in enumerate(["/", *base.machine_mounts(CHECKOUT)]):
            upper, work = (self.folder / f"{name}{number or ''}" for name in ("upper", "work"))
            upper.mkdir()
            upper.chmod(0o755)
            work.mkdir()
            lower = f"{self.shared}:/" if place == "/" else place
            if place == "/" or self.plan.checkout or not str(CHECKOUT).startswith(place):
                layers.append({"at": place, "lower": lower, "upper": str(upper), "work": str(work)})
        if not self.plan.checkout:
            base.folder(self.top, str(CHECKOUT).lstrip("/"), empty=True)
        return layers

    def _spec(self) -> dict[str, Any]:
        boot = self.folder / "boot_id"
        boot.unlink(missing_ok=True)
        boot.write_text(f"{uuid.uuid4()}\n")
        start = f"import sys, runpy; sys.path.insert(0, '/{base.LIBRARY}'); "
        start += "runpy.run_module('tests.lab.inside.main', run_name='__main__')"
        program = [base.PYTHON, "-ES", "-c", start]
        inside = "/usr/lib/prime-spark-lab/boot_id"
        return {
            "name": self.plan.name, "root": str(self.folder / "root"), "layers": self._layers,
            "containers": self.plan.containers, "cgroup": self.cgroup,
            "binds": [*self._binds, (str(boot), inside, False)], "boot_id": inside, "program": program,
        }  # fmt: skip

    async def start(self) -> None:
        """Switch it on; returns when its services are up. Raises NodeError."""
        if self.state != "off":
            return
        self.state = "starting"
        self._wires.power(self.plan.name, on=True)
        zero = f"--boottime=-{int(time.clock_gettime(time.CLOCK_BOOTTIME))}"  # the other stays: suspend sets them apart too
        namespace = f"/run/netns/{self._wires.hosts[self.plan.name].namespace}"
        command = [
            "setpriv", "--pdeathsig=KILL", "--", "nsenter", f"--net={namespace}", "unshare", "--mount", "--uts",
            "--ipc", "--pid",
            "--time", zero, "--fork", "--kill-child", "--propagation", "private",
            base.PYTHON, "-ES", box.__file__, json.dumps(self._spec()),
        ]  # fmt: skip
        if self.plan.containers:
            cgroups.make(self.cgroup)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        await self._up(self._process)
        self.boots += 1
        self.state = "on"
        self._watcher = asyncio.create_task(self._watch(self._process))

    async def _up(self, process: asyncio.subprocess.Process) -> None:
        ends = time.monotonic() + STARTS
        while True:
            if process.returncode is not None or time.monotonic() > ends:
                self.state = "off"
                said = self.log.read_text(errors="replace")[-2000:]
                raise NodeError(f"{self.plan.name} did not start; its log {self.log} ends with:\n{said}")
            self.init = self.init or child_of(process.pid)
            if self.init and Path(f"/proc/{self.init}/root/run/systemd/booted").exists():
                return
            await asyncio.sleep(0.01)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self.init, self.state = 0, "off"
        self._wires.power(self.plan.name, on=False)
        if self.plan.containers:
            await asyncio.to_thread(cgroups.remove, self.cgroup)
        if code == REBOOT:
            await self.start()

    async def ended(self) -> None:
        """Returns when it is off (or on again, where it reboots)."""
        if self._watcher is not None:
            await asyncio.shield(self._watcher)

    async def kill(self) -> None:
        """A power cut."""
        if self.init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)
        await self.ended()

    def told(self) -> dict[str, Any]:
        """For `lab status`."""
        return {
            "name": self.plan.name, "role": self.plan.role, "state": self.state, "address": self.plan.address,
            "vpn_address": self.plan.vpn_address, "mac": self.plan.mac, "boots": self.boots, "pid": self.init,
            "host_key": self.fingerprint, "groups": list(self.plan.groups), "services": self.services, "place": self.plan.place,
            "containers": self.plan.containers, "netns": self._wires.hosts[self.plan.name].namespace,
        }  # fmt: skip


def child_of(pid: int) -> int:
    """The first child of a process that became a node (or 0)."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if words:
            return int(words[0])
    return 0


def cgroup_prefix(directory: Path) -> str:
    """How the names of a lab's control groups begin."""
    return f"prime-spark-{directory.parent.name}-{directory.name}-"


def python_home() -> str:
    """Where this environment's Python lies."""
    return sys.base_prefix
