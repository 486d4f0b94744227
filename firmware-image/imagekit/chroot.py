"""Programs of the image itself, run in its root on the building machine: apart, with nothing mounted that outlives them."""

from __future__ import annotations

from pathlib import Path

from imagekit.shell import run

SCRIPT = """
set -eu
root="$1"; shift
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir -m 1777 "$root/dev/shm"
if [ -n "$BOUND" ]; then mount --bind "$BOUND" "$root/mnt"; fi
exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TZ=UTC \
    DEBIAN_FRONTEND=noninteractive SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" PYTHONHASHSEED=0 "$@"
"""


def inside(root: Path, epoch: int, *command: str, log: Path | None = None, bound: Path | None = None) -> str:
    """Run a program of that root in a mount namespace of its own, without devices and without a network of its own kind.

    Args:
        root: The root directory.
        epoch: Seconds since 1970 for SOURCE_DATE_EPOCH.
        command: Program and arguments.
        log: A file that takes all it says.
        bound: A directory of the building machine that is seen as /mnt.

    Raises:
        BuildError: It failed.
    """
    words = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
        "sh",
        "-c",
        SCRIPT,
        "sh",
        str(root),
        *command,
    ]
    return run(*words, env={"SOURCE_DATE_EPOCH": str(epoch), "BOUND": str(bound or "")}, log=log)
