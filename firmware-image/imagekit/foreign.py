"""A base root for a processor that this machine only emulates.

Packages are unpacked by this machine's own dpkg, which is quick; only their maintainer scripts run in emulation.
"""

from __future__ import annotations

import platform
from pathlib import Path

from imagekit import packages, trees
from imagekit.chroot import inside
from imagekit.errors import BuildError
from imagekit.plan import MACHINES
from imagekit.shell import run, say, step

BINFMT = Path("/proc/sys/fs/binfmt_misc")
FORMATS = Path("/usr/lib/binfmt.d")

REQUIRED = "?narrow(?or(?archive(^{suite}$),?codename(^{suite}$)),?architecture({arch}),?priority(required))"
"""Packages of the priority `required`, in apt's words: what the variant `minbase` has."""

FORCED = "--force-architecture,depends,unsafe-io,confold,overwrite"
"""Our dpkg takes the packages for foreign ones; dependencies are checked when the root's own dpkg configures them."""


def is_foreign(arch: str) -> bool:
    """Whether programs of that processor run here in emulation only."""
    return platform.machine() != MACHINES[arch]


def emulation(arch: str) -> None:
    """See to it that this machine runs programs of that processor. Raises BuildError."""
    name = f"qemu-{MACHINES[arch]}"
    entry = BINFMT / name
    if not entry.exists():
        _register(FORMATS / f"{name}.conf")
    if not entry.exists() or "enabled" not in entry.read_text():
        raise BuildError(
            f"This machine cannot run programs for {arch}.",
            "sudo apt-get install qemu-user-static; in a container, its host needs them.",
        )


def _register(conf: Path) -> None:
    if not conf.is_file():
        return
    if not (BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
    say(f"telling the kernel to run such programs by {conf.stem}")
    for line in conf.read_text().splitlines():
        if line.startswith(":"):
            (BINFMT / "register").write_text(line + "\n")


def unpack(root: Path, log: Path) -> None:
    """Unpack the packages in the root's cache of apt; only the scripts before it are emulated. Raises BuildError."""
    debs = sorted(root.glob("var/cache/apt/archives/*.deb"))
    awk = root / "usr/bin/awk"
    if not awk.is_symlink():
        awk.symlink_to("mawk")
    trees.write(root / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    (root / "var/lib/dpkg/status").touch()
    with step(f"unpacking {len(debs)} packages"):
        put(root, debs, log, *(f"--{each}" for each in packages.EXCLUDED))


def put(root: Path, debs: list[Path], log: Path, *options: str) -> None:
    """Unpack packages into a root by this machine's own dpkg, whose own log tells nothing of it. Raises BuildError."""
    words = ["dpkg", f"--root={root}", "--log=/dev/null", FORCED, "--no-triggers", *options, "--unpack"]
    run(*words, *debs, env={"DEBIAN_FRONTEND": "noninteractive"}, log=log)


def configure(root: Path, epoch: int, log: Path) -> None:
    """Configure what was unpacked, in emulation. Raises BuildError."""
    with step(f"configuring the packages in emulation, some minutes ({log})"):
        inside(root, epoch, "env", "INITRD=No", "dpkg", "--force-confold,unsafe-io", "--configure", "--pending", log=log)
    (root / "usr/sbin/policy-rc.d").unlink()
