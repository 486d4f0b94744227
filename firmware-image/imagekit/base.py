"""The base root: a minimal Debian with the packages of the lists, made by mmdebstrap and kept in the cache."""

from __future__ import annotations

import platform
from pathlib import Path

from imagekit import cache, packages
from imagekit.errors import BuildError
from imagekit.plan import ARCHES, MACHINES, SUITE, Plan
from imagekit.shell import need, run, say, step

EXCLUDED = (
    "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*", "path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*", "path-include=/usr/share/locale/locale.alias", "path-exclude=/usr/share/lintian/*",
)  # fmt: skip
"""What of packages is not unpacked. Licences stay."""

APT = ('Acquire::Languages "none"', "Acquire::Retries 3", 'APT::Install-Recommends "false"')
VERSION = "3"
"""Raised whenever the way of making a base root changes."""

KEEP_INITRAMFS = 'mkdir -p "$1/etc/initramfs-tools"; echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"'
"""The initramfs is made once, later, when all is in that goes into it."""


def root(plan: Plan, given_sources: Path | None = None) -> Path:
    """The base root of that processor, from the cache or made now. Raises BuildError."""
    names = packages.wanted(plan.arch)
    lines = packages.sources(plan.arch, given_sources)
    key = cache.digest(VERSION, lines, "\n".join(names), "\n".join((*EXCLUDED, *APT)))
    return cache.made(plan.cache, f"base-{plan.arch}", key, lambda into: _make(plan, names, lines, into)) / "root"


def _make(plan: Plan, names: list[str], lines: str, into: Path) -> None:
    need("mmdebstrap", "unshare")
    emulation(plan.arch)
    debs = plan.cache / f"debs-{SUITE}-{plan.arch}"
    debs.mkdir(parents=True, exist_ok=True)
    with step(f"making the base root for {plan.arch}: {len(names)} packages and what they need ({into / 'log'})"):
        try:
            run(*command(plan.arch, names, into / "root", debs), data=lines, env={"TMPDIR": str(into)}, log=into / "log")
        finally:
            keep(into / "root", debs)
    say(f"  {manifest(into / 'root').count(chr(10))} packages")


def keep(target: Path, debs: Path) -> None:
    """Move downloaded packages out of a root, also an unfinished one, for the next time."""
    for each in target.glob("var/cache/apt/archives/*.deb"):
        if (debs / each.name).exists():
            each.unlink()
        else:
            each.rename(debs / each.name)


def command(arch: str, names: list[str], target: Path, debs: Path) -> list[str]:
    """The command line of mmdebstrap; packages are kept in `debs` for the next time."""
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
    ]
    words += [
        f"--architectures={arch}",
        f"--include={','.join(names)}",
        "--skip=download/empty",
        "--skip=essential/unlink",
        "--skip=cleanup/apt/cache",
    ]
    words += [f"--dpkgopt={each}" for each in (*EXCLUDED, "force-unsafe-io", "force-confold")] + [
        f"--aptopt={each}" for each in APT
    ]
    fill = f'mkdir -p "$1/var/cache/apt/archives"; find "{debs}" -name "*.deb" -exec cp -t "$1/var/cache/apt/archives" {{}} +'
    words += [f"--setup-hook={fill}", f"--essential-hook={KEEP_INITRAMFS}", SUITE, str(target), "-"]
    return words


def emulation(arch: str) -> None:
    """Check that this machine can run programs of that processor. Raises BuildError."""
    if platform.machine() == MACHINES[arch]:
        return
    need("arch-test")
    try:
        run("arch-test", arch)
    except BuildError as error:
        raise BuildError(
            f"This machine cannot run programs for {arch}.",
            "sudo apt-get install qemu-user-static binfmt-support; then `arch-test` lists the processors that it can run.",
        ) from error


def manifest(root_tree: Path) -> str:
    """The packages in a root, one a line: name, version, processor. Raises BuildError."""
    shown = run(
        "dpkg-query", f"--admindir={root_tree / 'var/lib/dpkg'}", "-W", "-f", "${Package}\t${Version}\t${Architecture}\n"
    )
    return "".join(sorted(shown.splitlines(keepends=True)))


__all__ = ["ARCHES", "command", "emulation", "manifest", "root"]
