"""Says what differs between two builds, down to single files: a build is reproducible if nothing does."""

from __future__ import annotations

import hashlib
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from imagekit import layout
from imagekit.errors import BuildError
from imagekit.shell import run

SIGNED = ("manifest.raucm",)
"""Of a bundle: has the root hash of its hash tree, whose salt is new in each build."""
SKIPPED = ("SHA256SUMS", "SHA256SUMS.minisig", "log")


def compare(first: Path, second: Path) -> list[str]:
    """What differs between two directories that `build` made, or two of their files, one a line. Raises BuildError."""
    for each in (first, second):
        if not each.exists():
            raise BuildError(f"{each} is not there.", "name two directories that `imagekit build` made, or two files of them.")
    if first.is_dir() and second.is_dir():
        return list(_directories(first, second))
    return list(_files(first, second, first.name))


def _directories(first: Path, second: Path) -> Iterator[str]:
    here, there = ({each.name for each in place.iterdir() if each.is_file()} for place in (first, second))
    for name in sorted((here ^ there) - set(SKIPPED)):
        yield f"{name}: only in {first if name in here else second}"
    for name in sorted((here & there) - set(SKIPPED)):
        yield from _files(first / name, second / name, name)


def _files(first: Path, second: Path, name: str) -> Iterator[str]:
    if _hash(first) == _hash(second):
        return
    for suffix, opened in OPENERS.items():
        if first.name.endswith(suffix):
            yield from _opened(first, second, name, opened)
            return
    if first.suffix == ".img":
        yield from _images(first, second, name)
        return
    yield f"{name}: differs"


def _opened(first: Path, second: Path, name: str, opener: Callable[[Path, Path], None]) -> Iterator[str]:
    """Unpack both and compare what is in them; where that is the same, the container itself differs."""
    with tempfile.TemporaryDirectory(prefix="imagekit-compare-") as scratch:
        trees = Path(scratch) / "first", Path(scratch) / "second"
        for tree, file in zip(trees, (first, second), strict=True):
            opener(file, tree)
        found = list(differing(*trees))
    known = [each for each in found if each.split(":")[0] not in SIGNED]
    yield from (f"{name}: {each}" for each in known)
    if not known and not first.name.endswith(".raucb"):
        yield f"{name}: the files in it are the same, the order or the description of them differs"


def differing(first: Path, second: Path) -> Iterator[str]:
    """Which files differ between two trees: name, and in what."""
    here, there = ({str(each.relative_to(top)) for each in top.rglob("*")} for top in (first, second))
    for name in sorted(here ^ there):
        yield f"{name}: only in the {'first' if name in here else 'second'}"
    for name in sorted(here & there):
        unlike = [what for what, one, two in zip(ABOUT, _about(first / name), _about(second / name), strict=True) if one != two]
        if unlike:
            yield f"{name}: {', '.join(unlike)}"


ABOUT = ("kind and mode", "owner", "time", "content")


def _about(path: Path) -> tuple[str, str, str, str]:
    about = path.lstat()
    content = ""
    if path.is_symlink():
        content = str(path.readlink())
    elif stat.S_ISREG(about.st_mode):
        content = _hash(path)
    changed = "" if path.is_dir() and not path.is_symlink() else str(int(about.st_mtime))
    return oct(about.st_mode), f"{about.st_uid}:{about.st_gid}", changed, content


def _images(first: Path, second: Path, name: str) -> Iterator[str]:
    """Compare whole images partition by partition; both have this builder's table."""
    if first.stat().st_size != second.stat().st_size:
        yield f"{name}: sizes differ"
        return
    at = 0
    for row in layout.partitions("arm64" if "arm64" in first.name else "amd64"):
        if _range(first, at, row.start) != _range(second, at, row.start):
            yield f"{name}: the table of partitions differs"
        at = row.start + row.size
        if _range(first, row.start, at) != _range(second, row.start, at):
            yield f"{name}: partition {row.label} differs"


def _range(file: Path, start: int, end: int) -> str:
    total = hashlib.sha256()
    with file.open("rb") as opened:
        opened.seek(start)
        while start < end:
            part = opened.read(min(layout.MIB * 4, end - start))
            if not part:
                break
            total.update(part)
            start += len(part)
    return total.hexdigest()


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _squashfs(file: Path, into: Path) -> None:
    run("unsquashfs", "-q", "-n", "-d", into, file)


def _deb(file: Path, into: Path) -> None:
    run("dpkg-deb", "--raw-extract", file, into)


def _fat(file: Path, into: Path) -> None:
    into.mkdir()
    run("mcopy", "-s", "-m", "-n", "-i", file, "::", into)


def _ext4(file: Path, into: Path) -> None:
    into.mkdir()
    run("debugfs", "-R", f"rdump / {into}", file)


OPENERS: dict[str, Callable[[Path, Path], None]] = {
    ".squashfs": _squashfs, ".raucb": _squashfs, ".deb": _deb, ".vfat": _fat, ".ext4": _ext4
}  # fmt: skip
