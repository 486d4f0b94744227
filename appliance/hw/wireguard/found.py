"""What can carry a tunnel on this machine. Cheap: a few files are looked at, nothing is loaded or started.

Whether the kernel lets us is only seen when the interface is made; `tunnel.py` falls back to user space then.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.errors import AbsentError
from appliance.hw.wireguard.userspace import PROGRAMS

MODULE_LISTS = ("modules.dep", "modules.builtin")


class Found(msgspec.Struct, frozen=True):
    """What carries a tunnel."""

    backend: str
    """"kernel", "wireguard-go", "boringtun"; empty for nothing."""
    reason: str
    next_step: str = ""
    """What to do where there is nothing."""

    def must(self) -> str:
        """The backend. Raises AbsentError where there is none."""
        if not self.backend:
            raise AbsentError(self.reason, self.next_step)
        return self.backend


def find(root: Path = Path("/"), environ: Mapping[str, str] | None = None) -> Found:
    """Look at a machine.

    Args:
        root: Its file system.
        environ: Its environment, for the path of programs.
    """
    release = _text(root / "proc/sys/kernel/osrelease").strip() or os.uname().release
    if (root / "sys/module/wireguard").exists():
        return Found("kernel", "WireGuard is in the running kernel.")
    if any("/wireguard.ko" in _text(root / "lib/modules" / release / name) for name in MODULE_LISTS):
        return Found("kernel", f"The kernel {release} can load WireGuard.")
    return _userspace(root, release, (environ if environ is not None else os.environ).get("PATH"))


def _userspace(root: Path, release: str, path: str | None) -> Found:
    tun = (root / "dev/net/tun").exists()
    for program in PROGRAMS:
        if shutil.which(program.name, path=path):
            if tun:
                return Found(program.backend, f"The kernel {release} has no WireGuard; {program.name} does it in user space.")
            return Found("", f"{program.name} is installed, but there is no /dev/net/tun.", "sudo modprobe tun")
    step = "sudo apt-get install wireguard-go" if tun else "sudo modprobe tun && sudo apt-get install wireguard-go"
    return Found("", f"The kernel {release} has no WireGuard, and no program here does it in user space.", step)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
