"""The disk of a machine: the image itself is never written; files are put on it and taken from it while it is off.

What a cut proves. Killing QEMU loses what the guest's own kernel had not written, and every request that was under way.
With `Overlay` (qcow2, cache=writeback) all that a guest flushed is there afterwards, and most of what it had merely written
too: QEMU handed it to this machine's kernel, which was not cut. That is kinder than a real cut. `Volatile` is not: its writes
stay in the memory of a process that dies with the machine, and only what the guest flushed is certain to be there; the rest
is lost in any part and any order, down to the sector. Neither shows a medium that lies about its flushes, nor a card that
loses what lies beside the page that it wrote.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from imagelab.run import run
from tests.support import wait_for_sync

SECTOR = 512
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Partition:
    """A partition of an image: number from 1 on, name in the table, start and size in bytes."""

    number: int
    name: str
    start: int
    size: int


def partitions(image: Path) -> dict[str, Partition]:
    """The partitions of a raw image by their names."""
    table = json.loads(run("sfdisk", "-J", str(image)))["partitiontable"]["partitions"]
    found = [
        Partition(number, each.get("name", ""), each["start"] * SECTOR, each["size"] * SECTOR)
        for number, each in enumerate(table, start=1)
    ]
    return {each.name: each for each in found}


class Disk:
    """What both kinds have in common: partitions are copied out, changed and copied back while no machine runs.

    Args:
        image: The raw image, which is only read.
        home: A directory of the disk's own.
        size: Bytes of the disk; where it is larger than the image, the data partition can grow.
    """

    def __init__(self, image: Path, home: Path, size: int) -> None:
        self.image = image
        self.home = home
        self.size = max(size, image.stat().st_size)
        self.partitions = partitions(image)
        self.home.mkdir(parents=True, exist_ok=True)

    def blockdev(self) -> str:
        """QEMU's `-blockdev` for the node `disk`."""
        raise NotImplementedError

    def start(self) -> None:
        """What has to run before QEMU."""

    def cut(self) -> None:
        """The power went: lose what is not durable."""

    def stop(self) -> None:
        """QEMU ended by itself: everything written is kept."""

    def read(self, offset: int, length: int, into: Path) -> Path:
        """Copy some bytes into a file, and return it."""
        raise NotImplementedError

    def write(self, offset: int, data: Path) -> None:
        """Overwrite bytes with those of a file."""
        raise NotImplementedError

    def take(self, name: str) -> Path:
        """A copy of a partition as a file."""
        part = self.partitions[name]
        return self.read(part.start, part.size, self.home / f"{name}.part")

    def give(self, name: str, content: Path) -> None:
        """Put a partition's content back."""
        if content.stat().st_size > self.partitions[name].size:
            raise ValueError(f"{content} is larger than the partition {name}")
        self.write(self.partitions[name].start, content)

    def put_file(self, name: str, path: str, text: str | bytes) -> None:
        """Write a file on a FAT partition."""
        part, source = self.take(name), self.home / "put"
        source.write_bytes(text.encode() if isinstance(text, str) else text)
        run("mcopy", "-o", "-i", str(part), str(source), f"::{path}")
        self.give(name, part)

    def get_file(self, name: str, path: str) -> bytes:
        """A file of a FAT partition. Raises FileNotFoundError."""
        part, target = self.take(name), self.home / "got"
        target.unlink(missing_ok=True)
        done = subprocess.run(["mcopy", "-n", "-i", part, f"::{path}", target], capture_output=True, text=True, check=False)
        if done.returncode or not target.exists():
            raise FileNotFoundError(f"{path} on {name}: {done.stderr.strip()}")
        return target.read_bytes()

    def spoil(self, name: str, *, seed: int, offset: int = 0, length: int | None = None) -> None:
        """Overwrite a partition, or a stretch of it, with random bytes."""
        part, noise = self.partitions[name], self.home / "noise"
        noise.write_bytes(random.Random(seed).randbytes(part.size - offset if length is None else length))
        self.write(part.start + offset, noise)


class Overlay(Disk):
    """A qcow2 file over the image."""

    def __init__(self, image: Path, home: Path, size: int) -> None:
        super().__init__(image, home, size)
        self.file = self.home / "disk.qcow2"
        if not self.file.exists():
            base = ["-b", str(image.resolve()), "-F", "raw"]
            run("qemu-img", "create", "-q", "-f", "qcow2", *base, str(self.file), str(self.size))

    def blockdev(self) -> str:
        """Flushes of the guest reach the file; what is discarded stays."""
        return f"driver=qcow2,node-name=disk,discard=ignore,file.driver=file,file.filename={self.file}"

    def read(self, offset: int, length: int, into: Path) -> Path:
        """Copy some bytes into a file, and return it."""
        unit = 1 << 20 if not (offset | length) % (1 << 20) else SECTOR
        where = [f"bs={unit}", f"skip={offset // unit}", f"count={(offset + length) // unit}"]
        run("qemu-img", "dd", "-f", "qcow2", "-O", "raw", *where, f"if={self.file}", f"of={into}")
        return into

    def write(self, offset: int, data: Path) -> None:
        """Overwrite bytes with those of a file."""
        said = run("qemu-io", "-f", "qcow2", "-c", f"write -q -s {data} {offset} {data.stat().st_size}", str(self.file))
        if "error" in said.lower() or "fail" in said.lower():
            raise OSError(said)


class Volatile(Disk):
    """A disk that forgets what was not flushed, in any part; see volatile_disk.py.

    Args:
        image: The raw image, which is only read.
        home: A directory of the disk's own.
        size: Bytes of the disk.
        seed: Of the chances.
    """

    def __init__(self, image: Path, home: Path, size: int, seed: int) -> None:
        super().__init__(image, home, size)
        self.durable, self.seen, self.socket = self.home / "durable", self.home / "seen", self.home / "nbd"
        self.seed = seed
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        if not self.durable.exists():
            run("cp", "--sparse=always", str(image), str(self.durable))
            os.truncate(self.durable, self.size)

    def blockdev(self) -> str:
        """By NBD over a UNIX socket."""
        return f"driver=nbd,node-name=disk,discard=ignore,server.type=unix,server.path={self.socket}"

    def start(self) -> None:
        """Start the process that holds the cache."""
        run("cp", "--sparse=always", str(self.durable), str(self.seen))
        self.socket.unlink(missing_ok=True)
        self.starts += 1
        options = [f"durable={self.durable}", f"seen={self.seen}", f"seed={self.seed + self.starts}"]
        with (self.home / "nbdkit.log").open("ab") as log:
            command = [
                "nbdkit",
                "--exit-with-parent",
                "-f",
                "-U",
                str(self.socket),
                "python",
                str(HERE / "volatile_disk.py"),
                *options,
            ]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_sync(self.socket.exists, 20, "nbdkit listens")

    def cut(self) -> None:
        """The cache is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """A machine that was switched off in order had flushed what it wanted to keep."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None
        self.seen.unlink(missing_ok=True)

    def read(self, offset: int, length: int, into: Path) -> Path:
        """Copy some bytes into a file, and return it."""
        held = self.durable if self._process is None else self.seen  # a restart loses nothing
        with held.open("rb") as source, into.open("wb") as target:
            source.seek(offset)
            target.write(source.read(length))
        return into

    def write(self, offset: int, data: Path) -> None:
        """Overwrite bytes with those of a file."""
        with self.durable.open("r+b") as target, data.open("rb") as source:
            target.seek(offset)
            shutil.copyfileobj(source, target, 1 << 20)
