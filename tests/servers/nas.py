"""A network share that a test can hang, fill, write-protect and take away: bindfs (FUSE) over a small tmpfs."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

from tests.servers.child import Server, ServerError
from tests.support import capability, needs_program, wait_for_sync

MARKER = ".prime-spark-nas"
DETACH = 2  # MNT_DETACH of umount(2): gone from the tree at once, also where the server hangs

# Unmounts when its standard input ends: when the test orders it, or dies in whatever way.
GUARDIAN = 'cat >/dev/null; for each in "$@"; do umount -l "$each"; done'


def mounted(path: Path) -> bool:
    """Whether something is mounted there; asks the kernel, never the share."""
    return any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def detach(path: Path) -> None:
    """Unmount lazily, without looking at the path first as umount(8) does; OSError where nothing is mounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), DETACH):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


class Nas(Server):
    """A share at `path`, with the marker file in it. Needs root, which mounting needs.

    Args:
        directory: of its own, on a path without spaces.
        size: of the file system behind it, in bytes.
    """

    def __init__(self, directory: Path, size: int = 16 << 20) -> None:
        super().__init__(directory, "nas")
        self.size = size
        self.path = directory / "mount"
        self.backing = directory / "backing"
        self._guardian: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the file system, put the marker in it and mount it."""
        bindfs = needs_program("bindfs")
        capability(os.geteuid() == 0 and Path("/dev/fuse").exists(), "the right to mount (root, /dev/fuse)")
        self.path.mkdir(exist_ok=True)
        self.backing.mkdir(exist_ok=True)
        self._run("mount", "-t", "tmpfs", "-o", f"size={self.size},mode=755", "none", str(self.backing))
        command = ["sh", "-c", GUARDIAN, "sh", str(self.path), str(self.backing)]
        with self.child.log.open("ab") as log:
            self._guardian = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        (self.backing / MARKER).touch()
        self._command = [bindfs, "-f", "-o", "attr_timeout=0,entry_timeout=0", str(self.backing), str(self.path)]
        self.remount()

    def remount(self) -> None:
        """Mount the share again after unmount, with the files that it had."""
        self.child.spawn(self._command, self._answers)

    def _answers(self) -> bool:
        try:
            return mounted(self.path) and (self.path / MARKER).exists()
        except OSError:  # it ended while it was asked; spawn says so
            return False

    def hang(self) -> None:
        """Let all that touches the share wait, as a network file system does whose server is gone."""
        self.child.pause()

    def unmount(self) -> None:
        """Take the share away at once, hung or not, also under writers; below the mount point there is an empty directory."""
        detach(self.path)
        self.child.kill()

    def read_only(self, on: bool = True) -> None:
        """Let writes fail with EROFS, or no more. ServerError where files stay open for writing."""
        command = ["mount", "-o", f"remount,{'ro' if on else 'rw'}", "none", str(self.backing)]
        wait_for_sync(
            lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, message=" ".join(command)
        )

    def fill(self, size: int | None = None) -> None:
        """Take `size` bytes of its space, or all that is left."""
        left = os.statvfs(self.backing)
        free = left.f_bavail * left.f_frsize
        with (self.backing / ".filler").open("ab") as filler:
            os.posix_fallocate(filler.fileno(), filler.tell(), free if size is None else size)

    def free(self) -> None:
        """Give back what fill took."""
        (self.backing / ".filler").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it and unmount all, in whatever state it is; ServerError where a mount is left."""
        self.child.kill()
        if self._guardian is not None:
            self._guardian.communicate(timeout=20)
            self._guardian = None
        left = [str(each) for each in (self.path, self.backing) if mounted(each)]
        if left:
            raise ServerError(f"still mounted: {', '.join(left)}\n{self.child.tail()}")

    def kill(self) -> None:
        """SIGKILL bindfs: what touches the share gets ENOTCONN until unmount."""
        self.child.kill()

    def restart(self) -> None:
        """Take the share away and mount it again, with the files that it had."""
        self.unmount()
        self.remount()

    def recover(self) -> None:
        """Let the share be there again, with the files that it had, whatever a test has left of it."""
        if self.child.running:
            self.resume()
            return
        if mounted(self.path):
            detach(self.path)
        self.remount()

    def _abandon(self) -> None:
        self.stop()

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"{' '.join(command)}: {done.stderr}")
