"""The base root: a minimal Debian with the packages of the lists, made by mmdebstrap and kept in the cache."""

from __future__ import annotations

from pathlib import Path

from imagekit import cache, foreign, packages
from imagekit.plan import SUITE, Plan
from imagekit.shell import need, run, say, step

APT = ('Acquire::Languages "none"', "Acquire::Retries 3", 'APT::Install-Recommends "false"')
VERSION = "3"
"""Raised whenever the way of making a base root changes."""

KEEP_INITRAMFS = 'mkdir -p "$1/etc/initramfs-tools"; echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"'
"""The initramfs is made once, later, when all is in that goes into it."""


def root(plan: Plan, given_sources: Path | None = None) -> Path:
    """The base root of that processor, from the cache or made now. Raises BuildError."""
    names = packages.wanted(plan.arch)
    lines = packages.sources(plan.arch, given_sources)
    key = cache.digest(VERSION, lines, "\n".join(names), "\n".join((*packages.EXCLUDED, *APT)))
    return cache.made(plan.cache, f"base-{plan.arch}", key, lambda into: _make(plan, names, lines, into)) / "root"


def tools(plan: Plan, given_sources: Path | None = None) -> Path:
    """A small root for this machine's own processor, with the Python that images have. From the cache or made now."""
    arch = run("dpkg", "--print-architecture").strip()
    lines = (
        packages.archive_lines(packages.SOURCES.read_text(), backports=False)
        if given_sources is None
        else given_sources.read_text()
    )

    def make(into: Path) -> None:
        debs = plan.cache / f"debs-{SUITE}-{arch}"
        debs.mkdir(parents=True, exist_ok=True)
        with step(f"making a root with Python for the building machine ({into / 'log'})"):
            run(*command(arch, ["python3"], into / "root", debs), data=lines, env={"TMPDIR": str(into)}, log=into / "log")
            keep(into / "root", debs)

    return cache.made(plan.cache, f"tools-{arch}", cache.digest(VERSION, lines), make) / "root"


def _make(plan: Plan, names: list[str], lines: str, into: Path) -> None:
    need("mmdebstrap", "unshare")
    apart = foreign.is_foreign(plan.arch)
    if apart:
        foreign.emulation(plan.arch)
    debs = plan.cache / f"debs-{SUITE}-{plan.arch}"
    debs.mkdir(parents=True, exist_ok=True)
    with step(f"making the base root for {plan.arch}: {len(names)} packages and what they need ({into / 'log'})"):
        try:
            run(
                *command(plan.arch, names, into / "root", debs, apart=apart),
                data=lines,
                env={"TMPDIR": str(into)},
                log=into / "log",
            )
            if apart:
                foreign.unpack(into / "root", into / "unpack.log")
        finally:
            keep(into / "root", debs)
    if apart:
        foreign.configure(into / "root", plan.epoch, into / "configure.log")
    say(f"  {manifest(into / 'root').count(chr(10))} packages")


def keep(target: Path, debs: Path) -> None:
    """Move downloaded packages out of a root, also an unfinished one, for the next time."""
    for each in target.glob("var/cache/apt/archives/*.deb"):
        if (debs / each.name).exists():
            each.unlink()
        else:
            each.rename(debs / each.name)


def command(arch: str, names: list[str], target: Path, debs: Path, *, apart: bool = False) -> list[str]:
    """The command line of mmdebstrap; packages are taken from `debs` where it has them. `apart`: only extract them."""
    words = ["unshare", "--mount", "--propagation", "private", "mmdebstrap", "--mode=root", "--format=directory"]
    words += [f"--architectures={arch}", "--variant=extract" if apart else "--variant=minbase", f"--include={','.join(names)}"]
    if apart:
        words += ["--include=apt", f"--include={foreign.REQUIRED.format(suite=SUITE, arch=arch)}"]
    words += ["--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt/cache"]
    words += [f"--dpkgopt={each}" for each in (*packages.EXCLUDED, "force-unsafe-io", "force-confold")]
    words += [f"--aptopt={each}" for each in APT]
    fill = f'mkdir -p "$1/var/cache/apt/archives"; find "{debs}" -name "*.deb" -exec cp -t "$1/var/cache/apt/archives" {{}} +'
    held = "--extract-hook" if apart else "--essential-hook"
    words += [f"--setup-hook={fill}", f"{held}={KEEP_INITRAMFS}", SUITE, str(target), "-"]
    return words


def manifest(root_tree: Path) -> str:
    """The packages in a root, one a line: name, version, processor. Raises BuildError."""
    shown = run(
        "dpkg-query", f"--admindir={root_tree / 'var/lib/dpkg'}", "-W", "-f", "${Package}\t${Version}\t${Architecture}\n"
    )
    return "".join(sorted(shown.splitlines(keepends=True)))
