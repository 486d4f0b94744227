"""The system: the base root with the program and the files of the image in it, and an initramfs. Kept in the cache."""

from __future__ import annotations

import os
from pathlib import Path

from imagekit import base as base_root
from imagekit import cache, foreign, trees
from imagekit.chroot import inside
from imagekit.errors import BuildError
from imagekit.plan import FIRMWARE, PYTHON, Plan
from imagekit.shell import step

FILES = FIRMWARE / "files"
VERSION = "5"
"""Raised whenever the way of making a system changes."""

EMPTIED = (
    "var/log", "var/cache/apt", "var/cache/debconf", "var/cache/ldconfig", "var/cache/fontconfig",
    "var/cache/man", "var/lib/apt/lists", "var/tmp",
    "tmp", "run", "root/.cache",
    "var/lib/systemd/catalog", "var/lib/systemd/deb-systemd-helper-enabled", "var/lib/redis", "var/lib/dbus",
)  # fmt: skip
"""Directories that stay, without what the building left in them."""

REMOVED = (
    "etc/machine-id", "etc/hostname", "etc/resolv.conf", "etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/sources.list",
    "etc/ssh/ssh_host_*",
    "var/lib/dpkg/*-old", "etc/*-", "etc/initramfs-tools/update-initramfs.conf", "var/lib/apt/extended_states",
    "var/lib/systemd/random-seed", ".dockerenv",
)  # fmt: skip


def root(plan: Plan, base: Path, deb: Path | None) -> Path:
    """The system's root; `/boot` has kernel and initramfs. From the cache or made now. Raises BuildError."""
    layers = layered(plan.arch)
    key = cache.digest(
        VERSION, base.parent.name, deb or "no package", str(plan.epoch // 86400), *[each for each in layers if each.is_dir()]
    )
    return cache.made(plan.cache, f"system-{plan.arch}", key, lambda into: _make(plan, base, deb, into)) / "root"


def layered(arch: str) -> list[Path]:
    """The trees that are laid over the root, in that order."""
    return [FILES / "root", FILES / f"root-{arch}"]


def _make(plan: Plan, base: Path, deb: Path | None, into: Path) -> None:
    target = into / "root"
    target.mkdir()
    with step("copying the base root"):
        trees.copy(base, target)
    (target / "etc/initramfs-tools/update-initramfs.conf").unlink(missing_ok=True)
    if deb is not None:
        with step(f"installing {deb.name}"):
            install(target, deb, plan, into / "deb.log")
    trees.lay(layered(plan.arch), target)
    with step("making the initramfs"):
        inside(target, plan.epoch, "update-initramfs", "-c", "-k", "all", log=into / "initramfs.log")
    inside(target, plan.epoch, "systemctl", "preset-all", log=into / "preset.log")
    compiled(plan, target)
    clean(target, plan.epoch)


def compiled(plan: Plan, target: Path) -> None:
    """Compile Debian's own Python files anew: what its scripts made depends on the environment that they ran in."""
    places = [f"/mnt/{name}" for name in ("usr/lib/python3", f"usr/lib/python{PYTHON}") if (target / name).is_dir()]
    words = ("-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", "-s", "/mnt", "-p", "/")
    with step("compiling Debian's Python files"):
        inside(base_root.tools(plan), plan.epoch, f"/usr/bin/python{PYTHON}", *words, *places, bound=target)


def install(target: Path, deb: Path, plan: Plan, log: Path) -> None:
    """Install our package into a root: unpacked by this machine's dpkg, configured by the root's own. Raises BuildError."""
    policy = target / "usr/sbin/policy-rc.d"
    trees.write(policy, "#!/bin/sh\nexit 101\n", 0o755)
    try:
        foreign.put(target, [deb], log)
        inside(target, plan.epoch, "dpkg", "--force-unsafe-io", "--configure", "--pending", log=log)
    except BuildError as error:
        raise BuildError(
            f"The package could not be installed into the image: {error}",
            "add what it depends on to firmware-image/packages/base.txt.",
        ) from error
    finally:
        policy.unlink()


def clean(target: Path, epoch: int) -> None:
    """Take away what differs from build to build, and what each machine must make for itself."""
    for name in EMPTIED:
        directory = target / name
        if directory.is_dir() and not directory.is_symlink():
            for each in sorted(directory.iterdir()):
                cache.remove(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    for pattern in REMOVED:
        found = target.glob(pattern) if "*" in pattern else [target / pattern]
        for each in found:
            if os.path.lexists(each):
                each.unlink()
    trees.write(target / "etc/machine-id", "", 0o444)
    (target / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    shadow(target / "etc/shadow", epoch // 86400)


def shadow(file: Path, day: int) -> None:
    """Give all accounts the same day of their last change of password, in days since 1970."""
    rows = [line.split(":") for line in file.read_text().splitlines()]
    file.write_text("".join(":".join([*row[:2], str(day), *row[3:]]) + "\n" for row in rows))


def kernel(target: Path) -> tuple[Path, Path]:
    """Kernel and initramfs in a system's /boot. Raises BuildError if there is not exactly one of each."""
    kernels, ramfs = sorted((target / "boot").glob("vmlinu[xz]-*")), sorted((target / "boot").glob("initrd.img-*"))
    if len(kernels) != 1 or len(ramfs) != 1:
        raise BuildError(
            f"The root has {len(kernels)} kernels and {len(ramfs)} initramfs in /boot; it needs one of each.",
            "name one kernel in firmware-image/packages.",
        )
    return kernels[0], ramfs[0]
