"""Laying one tree of files over another."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from imagekit.errors import BuildError


def copy(source: Path, target: Path) -> None:
    """Copy a whole root with owners, modes, times and links; the target is made new. Raises BuildError."""
    from imagekit.shell import run

    run("cp", "-a", "--reflink=auto", f"{source}/.", target)


def twin(source: Path, target: Path) -> None:
    """A copy whose files are hard links to the source's: quick. Write into it with `lay` and `write` only."""
    from imagekit.shell import run

    run("cp", "-al", f"{source}/.", target)


def lay(trees: Iterable[Path], root: Path) -> None:
    """Lay trees over a root: files replace files, their modes are kept, they belong to root.

    Directories that are there keep their modes. A file that is replaced is unlinked first: other links to it stay as they are.

    Raises:
        BuildError: A tree has a device, a socket or a pipe; or it wants a file where the root has a directory.
    """
    for tree in trees:
        if tree.is_dir():
            for path in sorted(tree.rglob("*")):
                _put(path, root / path.relative_to(tree))


def _put(path: Path, target: Path) -> None:
    if "__pycache__" in path.parts or path.name == ".gitkeep":
        return
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        if not target.is_dir():
            target.mkdir(parents=True)
            target.chmod(0o755)
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise BuildError(
            f"{path} is neither a file, a directory nor a link.",
            "remove it from the tree; units and tmpfiles.d make such things.",
        )
    if target.is_dir() and not target.is_symlink():
        raise BuildError(
            f"{path} would take the place of a directory.", "give it another name, or remove the directory in an earlier step."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        target.unlink()
    shutil.copy2(path, target, follow_symlinks=False)
    os.chown(target, 0, 0, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(0o755 if mode & 0o111 else (0o640 if not mode & 0o007 else 0o644))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file new, not through a link that others share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        path.unlink()
    path.write_text(text)
    path.chmod(mode)


def clamp(top: Path, epoch: int) -> None:
    """Give everything that is newer the time `epoch` (seconds since 1970)."""
    for path in (top, *top.rglob("*")):
        if path.lstat().st_mtime > epoch:
            os.utime(path, (epoch, epoch), follow_symlinks=False)
