"""Becomes a node: runs as process 1 of fresh namespaces, builds the node's own root, gives up what could reach out, goes on.

What a node does ends at its walls: its root is an overlay whose changes lie in memory, /proc/sys and /sys are read-only (but
for its own network's), no device of the machine is there, and the rights to set the clock, load modules, mount, make devices or
reboot are gone for good (a node for containers keeps those to mount and to make devices, which containers need).

Standard library only; run by its path with the description of the node as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.lab import cgroups

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_CAPBSET_DROP = 24
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
HIDDEN = ("kcore", "keys", "kmsg", "latency_stats", "timer_list", "sched_debug", "interrupts.d")
READ_ONLY = ("sys", "bus", "fs", "irq", "sysrq-trigger", "acpi", "scsi", "driver", "mtrr")
GIVEN_UP = {
    "dac_read_search": 2, "linux_immutable": 9, "sys_module": 16, "sys_rawio": 17, "sys_pacct": 20, "sys_boot": 22,
    "sys_time": 25, "audit_control": 30, "mac_override": 32, "mac_admin": 33, "syslog": 34, "wake_alarm": 35,
    "block_suspend": 36, "audit_read": 37, "perfmon": 38, "bpf": 39, "checkpoint_restore": 40,
}  # fmt: skip
"""Capabilities (capability.h) that no process of a node can have."""
FOR_CONTAINERS = {"sys_admin": 21, "mknod": 27}
"""Given up too, but for nodes that run containers."""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}

libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    given = [text.encode() or None for text in (source, str(target), kind, options)]
    _checked(libc.mount(given[0], given[1], given[2], ctypes.c_ulong(flags), given[3]), f"mount {source} at {target}")


def bind(source: str, target: Path | str, *, writable: bool = False) -> None:
    """Show a file or directory elsewhere too; read-only unless told otherwise."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if not writable:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def build(spec: dict[str, Any]) -> Path:
    """The node's root: an overlay over the machine's, and what the kernel offers."""
    root = Path(spec["root"])
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    for layer in spec["layers"]:
        place = root / layer["at"].lstrip("/")
        options = f"lowerdir={layer['lower']},upperdir={layer['upper']},workdir={layer['work']}"
        mount("overlay", place, "overlay", MS_NODEV if not spec["containers"] else 0, options)
    for name, mode in (("run", "0755"), ("tmp", "1777"), ("dev", "0755")):
        mount("tmpfs", root / name, "tmpfs", MS_NOSUID | (0 if name == "dev" else MS_NODEV), f"mode={mode}")
    devices(root / "dev")
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY)
    if spec["containers"]:
        control_groups(root / "sys/fs/cgroup", spec["cgroup"])
    for source, target, writable in spec["binds"]:
        place = root / target.lstrip("/")
        if Path(source).is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        bind(source, place, writable=writable)
    return root


def control_groups(place: Path, name: str) -> None:
    """The node's own, as if there were no others."""
    every = cgroups.hierarchies()
    cgroups.enter(name)
    _checked(libc.unshare(cgroups.CLONE_NEWCGROUP), "a namespace for control groups")
    if every == [("", "")]:
        mount("cgroup2", place, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        return
    mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755")
    for folder, options in every:
        (place / folder).mkdir()
        mount("cgroup", place / folder, "cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, options)


def devices(folder: Path) -> None:
    """The few that every machine has, none of them of this one."""
    os.umask(0)
    for name, (major, minor) in DEVICES.items():
        os.mknod(folder / name, 0o20666, os.makedev(major, minor))
    (folder / "net").mkdir(mode=0o755)
    os.mknod(folder / "net/tun", 0o20666, os.makedev(10, 200))
    for name, mode in (("pts", 0o755), ("shm", 0o1777)):
        (folder / name).mkdir(mode=mode)
    mount("devpts", folder / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")
    mount("tmpfs", folder / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for name, aim in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"),
                      ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")):  # fmt: skip
        (folder / name).symlink_to(aim)
    os.umask(0o022)


def move_in(root: Path) -> None:
    """Make it the root; what was is gone."""
    os.chdir(root)
    _checked(libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _checked(libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def lock(spec: dict[str, Any]) -> None:
    """Make read-only, or hide, what the kernel lets root change for the whole machine."""
    for name in READ_ONLY:
        if Path("/proc", name).exists():
            bind(f"/proc/{name}", f"/proc/{name}")
    bind("/proc/sys/net", "/proc/sys/net", writable=True)
    mount("", "/proc/sys/net", flags=MS_BIND | MS_REMOUNT)
    for name in HIDDEN:
        if Path("/proc", name).exists():
            bind("/dev/null", f"/proc/{name}")
    bind(spec["boot_id"], "/proc/sys/kernel/random/boot_id")


def give_up(capabilities: dict[str, int]) -> None:
    """Drop capabilities from the bounding set: nothing that is run from here on can have them."""
    for name, number in capabilities.items():
        _checked(libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0), f"giving up {name}")


def main() -> None:
    """Build, move in, lock, give up, and become the node's process 1."""
    spec = json.loads(sys.argv[1])
    os.umask(0o022)
    root = build(spec)
    move_in(root)
    libc.sethostname(spec["name"].encode(), len(spec["name"].encode()))
    lock(spec)
    give_up(GIVEN_UP if spec["containers"] else GIVEN_UP | FOR_CONTAINERS)
    os.execve(spec["program"][0], spec["program"], ENVIRONMENT)


if __name__ == "__main__":
    main()
