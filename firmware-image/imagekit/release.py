"""From a system to what is released: boot partition, squashfs, bundle, image."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from imagekit import cache, disk, filesystems, grub, layout, pi, system, trees
from imagekit.errors import BuildError
from imagekit.keys import Signer
from imagekit.plan import FIRMWARE, Plan
from imagekit.shell import run, step

FILES = system.FILES


@dataclass(frozen=True)
class Parts:
    """What one version consists of."""

    boot: Path
    """FAT image, the same for both slots."""
    rootfs: Path
    """squashfs."""


def parts(plan: Plan, base_system: Path, signed: Signer) -> Parts:
    """Make boot partition and root of that version. Raises BuildError."""
    made = Parts(plan.out / "boot.vfat", plan.out / "root.squashfs")
    with tempfile.TemporaryDirectory(dir=plan.cache, prefix="work-") as scratch:
        tree = Path(scratch) / "root"
        tree.mkdir()
        trees.twin(base_system, tree)
        trees.lay([plan.extra] if plan.extra else [], tree)
        trees.write(tree / "etc/rauc/keyring.pem", signed.keyring.read_text())
        identify(tree, plan)
        with step(f"making the boot partition ({made.boot})"):
            boot(plan, base_system, Path(scratch) / "boot", made.boot)
        with step(f"making the root ({made.rootfs}, {plan.compress})"):
            filesystems.squashfs(tree, made.rootfs, plan.compress, plan.epoch)
        cache.remove(tree)
    return made


def identify(tree: Path, plan: Plan) -> None:
    """Write into os-release which image this is, and below which time the clock cannot be."""
    file = tree / "usr/lib/os-release"
    ours = ("IMAGE_ID=", "IMAGE_VERSION=", "VARIANT_ID=", "VARIANT=", "DEFAULT_HOSTNAME=")
    lines = [line for line in file.read_text().splitlines() if not line.startswith(ours)]
    lines += ["IMAGE_ID=prime-spark", f"IMAGE_VERSION={plan.version}", f"VARIANT_ID={plan.arch}", 'VARIANT="Prime Spark"']
    lines.append("DEFAULT_HOSTNAME=control-pc")
    trees.write(file, "\n".join(lines) + "\n")
    clock = tree / "usr/lib/clock-epoch"
    trees.write(clock, "")
    os.utime(clock, (plan.epoch, plan.epoch))
    link = tree / "etc/os-release"
    if not link.exists():
        link.symlink_to("../usr/lib/os-release")


def boot(plan: Plan, root: Path, tree: Path, image: Path) -> None:
    """Make the boot partition: kernel, initramfs, and on the Pi its device trees."""
    tree.mkdir()
    trees.lay([FILES / f"boot-{plan.arch}"], tree)
    found, ramfs = system.kernel(root)
    shutil.copyfile(found, tree / "vmlinuz")
    shutil.copyfile(ramfs, tree / "initrd.img")
    if plan.arch == "arm64":
        pi.device_trees(root, tree)
    if plan.extra and (plan.extra / ".boot").is_dir():
        trees.lay([plan.extra / ".boot"], tree)
    filesystems.fat(tree, image, layout.BOOT_MIB, "BOOT", plan.epoch, layout.volume("boot"))


def config(plan: Plan, image: Path) -> None:
    """Make p1: the configuration, and what starts the machine."""
    with tempfile.TemporaryDirectory(dir=plan.cache, prefix="work-") as scratch:
        tree = Path(scratch) / "config"
        tree.mkdir()
        trees.lay([FIRMWARE / "boot", FILES / "config", FILES / f"config-{plan.arch}"], tree)
        if plan.arch == "amd64":
            grub.efi(tree / "EFI/BOOT/BOOTX64.EFI")
        filesystems.fat(tree, image, layout.CONFIG_MIB, layout.CONFIG_LABEL, plan.epoch, layout.volume("config"))


def data(plan: Plan, made: Parts, image: Path) -> None:
    """Make the data partition, as large as the image has it. RAUC finds there what both slots have."""
    with tempfile.TemporaryDirectory(dir=plan.cache, prefix="work-") as scratch:
        tree = Path(scratch) / "data"
        tree.mkdir()
        trees.lay([FILES / "data"], tree)
        trees.write(tree / "rauc/central.raucs", slots(plan, made))
        filesystems.ext4(tree, image, layout.DATA_MIB, "data", plan.epoch)


def slots(plan: Plan, made: Parts) -> str:
    """RAUC's record of what is in the slots, as if its bundle had been installed into both."""
    found = []
    for kind, file in (("bootfs", made.boot), ("rootfs", made.rootfs)):
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        text = (
            f"bundle.compatible=prime-spark-{plan.arch}\nbundle.version={plan.version}\nbundle.build={plan.epoch}\n"
            f"status=ok\nsha256={digest}\nsize={file.stat().st_size}\n"
        )
        found += [f"[slot.{kind}.{number}]\n{text}" for number in (0, 1)]
    return "\n".join(found)


def bundle(plan: Plan, made: Parts, signed: Signer) -> Path:
    """Make the signed bundle of a version for RAUC. Raises BuildError."""
    target = plan.out / f"{plan.name}.raucb"
    with tempfile.TemporaryDirectory(dir=plan.cache, prefix="work-") as scratch, step(f"making the bundle ({target})"):
        tree = Path(scratch) / "bundle"
        tree.mkdir()
        for each in (made.boot, made.rootfs):
            (tree / each.name).symlink_to(each.resolve())
        (tree / "manifest.raucm").write_text(manifest(plan, made))
        target.unlink(missing_ok=True)
        copy = Path(scratch) / "content"
        run("cp", "-rL", "--reflink=auto", tree, copy)
        run(
            "rauc", "bundle", f"--cert={signed.cert}", f"--key={signed.key}", f"--keyring={signed.keyring}",
            "--mksquashfs-args=-comp lz4 -no-progress -noI", copy, target, env=plan.env,
        )  # fmt: skip
    return target


def manifest(plan: Plan, made: Parts) -> str:
    """RAUC's description of the bundle."""
    return (
        f"[update]\ncompatible=prime-spark-{plan.arch}\nversion={plan.version}\nbuild={plan.epoch}\n\n"
        "[bundle]\nformat=verity\n\n"
        f"[image.bootfs]\nfilename={made.boot.name}\n\n[image.rootfs]\nfilename={made.rootfs.name}\n"
    )


def image(plan: Plan, made: Parts) -> Path:
    """Put the whole image together; both slots have this version. Raises BuildError."""
    target = plan.out / f"{plan.name}.img"
    first, store = plan.out / "config.vfat", plan.out / "data.ext4"
    with step(f"putting the image together ({target})"):
        config(plan, first)
        data(plan, made, store)
        both = {"boot-a": made.boot, "boot-b": made.boot, "system-a": made.rootfs, "system-b": made.rootfs}
        disk.assemble(target, plan.arch, {"config": first, "data": store, **both})
    return target


def room(plan: Plan) -> None:
    """Check that there is room for a build. Raises BuildError."""
    begun = any(plan.cache.glob(f"system-{plan.arch}-*")) if plan.cache.is_dir() else False
    for place, gib in ((plan.cache, 6 if begun else 12), (plan.out, 6)):
        place.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place).free / 2**30
        if free < gib:
            raise BuildError(
                f"{place} has {free:.1f} GiB free; a build needs up to {gib} GiB there.",
                "make room, or name another place: --cache DIR, --out DIR",
            )
