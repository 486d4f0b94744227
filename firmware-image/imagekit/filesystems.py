"""File systems in files, made without mounting: FAT, ext4, squashfs. The same tree gives the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

from imagekit import layout, trees
from imagekit.errors import BuildError
from imagekit.shell import run

EXCLUDED = ("boot/!(firmware)", "boot/firmware/*", "proc/*", "sys/*", "dev/*", "run/*", "tmp/*", "data/*", "mnt/*", "media/*")
"""What of the root the squashfs does not have; the directories stay as places to mount on, /boot/firmware too."""

GROWN = 2**40 * 2 // 4096
"""Blocks that the data partition can grow to without moving a thing: 2 TiB."""


def fat(tree: Path, image: Path, mib: int, label: str, epoch: int, ident: str) -> None:
    """Make a FAT32 image of a tree.

    Args:
        tree: What it holds.
        image: The file to make.
        mib: Its size.
        label: Volume label, eleven characters at most.
        epoch: Seconds since 1970: the time of all files, and of the making.
        ident: Volume number, eight hexadecimal digits.

    Raises:
        BuildError: It does not fit, or a program failed.
    """
    used = sum(each.stat().st_size for each in tree.rglob("*") if each.is_file())
    if used > (mib - 4) * layout.MIB:
        raise BuildError(
            f"{used // layout.MIB} MiB do not fit into the partition {label} of {mib} MiB.",
            "make the initramfs smaller, or the partition larger in imagekit/layout.py.",
        )
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(mib * layout.MIB)
    env = {"SOURCE_DATE_EPOCH": str(epoch), "MTOOLS_SKIP_CHECK": "1"}
    clusters = "1" if mib <= 64 else "4"
    run("mkfs.vfat", "--invariant", "-F", "32", "-s", clusters, "-n", label, "-i", ident, image, env=env)
    for path in (tree, *sorted(tree.rglob("*"))):
        os.utime(path, (epoch, epoch), follow_symlinks=False)
    for path in sorted(tree.rglob("*")):
        name = f"::{path.relative_to(tree)}"
        if path.is_dir():
            run("mmd", "-i", image, name, env=env)
        else:
            run("mcopy", "-m", "-i", image, path, name, env=env)


def ext4(tree: Path, image: Path, mib: int, label: str, epoch: int) -> None:
    """Make an ext4 image of a tree, able to grow to 2 TiB. Raises BuildError."""
    trees.clamp(tree, epoch)
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(mib * layout.MIB)
    ident = str(layout.identity(label))
    extended = f"hash_seed={layout.identity('hash')},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,resize={GROWN}"
    env = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch)}
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-i",
        "16384",
        "-m",
        "1",
        "-L",
        label,
        "-U",
        ident,
        "-E",
        extended,
        "-d",
        tree,
        image,
        env=env,
    )


def squashfs(tree: Path, image: Path, compress: str, epoch: int) -> None:
    """Make a squashfs of a root, without what is mounted over. Raises BuildError."""
    image.unlink(missing_ok=True)
    level = ("-Xcompression-level", "19") if compress == "zstd" else ()
    env = {"SOURCE_DATE_EPOCH": str(epoch)}
    run(
        "mksquashfs",
        tree,
        image,
        "-comp",
        compress,
        *level,
        "-b",
        "256K",
        "-noappend",
        "-no-progress",
        "-quiet",
        "-xattrs",
        "-wildcards",
        "-e",
        *EXCLUDED,
        env=env,
    )
    if image.stat().st_size > layout.SYSTEM_MIB * layout.MIB:
        raise BuildError(
            f"The root has {image.stat().st_size // layout.MIB} MiB, a system partition {layout.SYSTEM_MIB} MiB.",
            "compress with zstd, or take packages out of firmware-image/packages.",
        )
