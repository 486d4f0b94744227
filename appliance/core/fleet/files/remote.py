"""The files of a node, as the other end of a transfer: SFTP for their bytes, the node's own tools for what SFTP lacks."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from appliance.core.fleet.files.model import Digest, Entry, Kind, kind_of
from appliance.core.fleet.model import FileInfo, FleetShell, RemoteFiles
from appliance.core.printable import printable
from appliance.errors import NotFoundError, ShellError

SOON = 30.0
"""Seconds that a small command may take."""
HASH_RATE = 5_000_000
"""Bytes a second that even an old SD card hashes."""
MOST = 200
"""Files that one command hashes."""
NO_COMMAND = 127
"""Exit status of a shell that does not find a program."""


@asynccontextmanager
async def opened(shell: FleetShell, node: str, limit: float = SOON) -> AsyncIterator[RemoteSide]:
    """The files of a node, for a while. Raises ShellError.

    Args:
        shell: Reaches it.
        node: Its name.
        limit: Seconds in which its SFTP server must answer; one that hangs holds nobody up.
    """
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(limit):
                files = await stack.enter_async_context(shell.files(node))
        except TimeoutError:
            raise ShellError(
                f"{node} gives no access to its files: its SFTP server does not answer within {limit:g} s.",
                "look at the line Subsystem sftp of its sshd_config.",
            ) from None
        yield RemoteSide(node, shell, files)


class RemoteSide:
    """A node (implements model.Side).

    Args:
        node: Its name.
        shell: Runs commands there.
        files: Its files, open.
    """

    def __init__(self, node: str, shell: FleetShell, files: RemoteFiles) -> None:
        self.name = node
        self._shell = shell
        self._files = files
        self._no_sha256sum = False

    async def stat(self, path: str) -> Entry | None:
        """See model.Side."""
        try:
            return _entry(await self._files.stat(path), path)
        except NotFoundError:
            return None

    async def resolve(self, path: str) -> str:
        """See model.Side."""
        said = await self._said(["readlink", "-f", "--", path])
        return said.removesuffix("\n") if said else path

    async def list(self, path: str) -> Sequence[Entry]:
        """See model.Side. A name that would lead elsewhere is refused: whoever has the node chooses its names."""
        found = []
        for info in await self._files.list(path):
            name = info.path.rpartition("/")[2]
            if name in {"", ".", ".."} or "\0" in name:
                raise ShellError(f"{self.name} tells of a file called {name!r}.", "look at that folder there.")
            whole = await self._files.stat(info.path) if kind_of(info.mode) is Kind.link and info.link_to is None else info
            found.append(_entry(whole, name))
        return found

    async def read(self, path: str, offset: int, digest: Digest) -> AsyncIterator[bytes]:
        """See model.Side; hashed at the other end."""
        del digest
        async for block in self._files.read(path, offset):
            yield block

    async def write(self, path: str, blocks: AsyncIterator[bytes], offset: int, digest: Digest) -> int:
        """See model.Side; hashed at the other end."""
        del digest
        return await self._files.write(path, blocks, offset=offset, mode=0o600)

    async def sha256(self, paths: Sequence[str]) -> Mapping[str, str]:
        """See model.Side: by sha256sum there, or read back where there is none."""
        found: dict[str, str] = {}
        for start in range(0, len(paths), MOST):
            some = paths[start : start + MOST]
            said = None if self._no_sha256sum else await self._summed(some)
            found.update(said if said is not None else {path: await self._read_back(path, -1) for path in some})
        return found

    async def _summed(self, paths: Sequence[str]) -> Mapping[str, str] | None:
        limit = SOON + await self._sizes(paths) / HASH_RATE
        ran = await self._shell.run(self.name, ["sha256sum", "--", *paths], limit=limit)
        if ran.exit_status == NO_COMMAND:
            self._no_sha256sum = True
            return None
        return sums(ran.stdout)

    async def _sizes(self, paths: Sequence[str]) -> int:
        if len(paths) > 1:
            return 0 if not paths else MOST * (1 << 20)  # many at a time are small ones
        found = await self.stat(paths[0])
        return found.size if found is not None else 0

    async def _read_back(self, path: str, size: int) -> str:
        digest, left = hashlib.sha256(), size
        async for block in self._files.read(path, 0, None if size < 0 else size):
            await asyncio.to_thread(digest.update, block)
            left -= len(block)
        return digest.hexdigest()

    async def beginning(self, path: str, size: int) -> str:
        """See model.Side."""
        if not self._no_sha256sum:
            script = 'head -c "$1" < "$2" | sha256sum'
            limit = SOON + size / HASH_RATE
            ran = await self._shell.run(self.name, ["sh", "-c", script, "sh", str(size), path], limit=limit)
            found = ran.stdout.split()
            if ran.exit_status == 0 and found and len(found[0]) == 64:
                return found[0].decode("ascii")
        return await self._read_back(path, size)

    async def free(self, folder: str) -> int | None:
        """See model.Side: of the nearest folder that is there."""
        while folder:
            said = await self._said(["df", "-Pk", "--", folder])
            found = room(said)
            if found is not None or folder in {"/", "."}:
                return found
            folder = posixpath.dirname(folder.rstrip("/")) or ("/" if folder.startswith("/") else ".")
        return None

    async def rename(self, old: str, new: str) -> None:
        """See model.Side."""
        await self._files.rename(old, new)

    async def remove(self, path: str) -> None:
        """See model.Side."""
        try:
            await self._files.remove(path)
        except NotFoundError:
            return

    async def make_folder(self, path: str, mode: int = 0o755) -> None:
        """See model.Side."""
        await self._files.make_folder(path, mode)

    async def link(self, target: str, path: str) -> None:
        """See model.Side."""
        ran = await self._shell.run(self.name, ["ln", "-s", "--", target, path], limit=SOON)
        if ran.exit_status:
            said = printable(ran.stderr.decode(errors="replace").strip())
            raise ShellError(f"{self.name} made no link {printable(path)}: {said}.", "look at that folder there.")

    async def set(self, path: str, mode: int, modified: float | None) -> None:
        """See model.Side."""
        await self._files.set(path, mode=mode & 0o777, modified=modified)

    async def _said(self, command: Sequence[str]) -> str:
        """What a command said; empty where it failed."""
        ran = await self._shell.run(self.name, command, limit=SOON)
        return ran.stdout.decode("utf-8", "surrogateescape") if ran.exit_status == 0 else ""


def _entry(info: FileInfo, told: str) -> Entry:
    kind = Kind.folder if info.is_folder else Kind.link if info.link_to is not None else kind_of(info.mode)
    return Entry(told, kind, info.size, info.mode & 0o777, info.modified, info.link_to or "")


def sums(said: bytes) -> dict[str, str]:
    """Path → hash, of what sha256sum printed; a line of a name with a line end or backslash begins with a backslash."""
    found = {}
    for line in said.split(b"\n"):
        escaped = line.startswith(b"\\")
        summed, _, name = line[escaped:].partition(b" ")
        if len(summed) != 64 or not name:
            continue
        path = name[1:].decode("utf-8", "surrogateescape")
        found[_plain(path) if escaped else path] = summed.decode("ascii")
    return found


def _plain(escaped: str) -> str:
    found, signs = "", iter(escaped)
    for sign in signs:
        following = next(signs, "") if sign == "\\" else ""
        found += {"n": "\n", "r": "\r", "\\": "\\"}.get(following, sign + following) if following else sign
    return found


def room(said: str) -> int | None:
    """Free bytes, of what `df -Pk` printed; None where that is none of it."""
    lines = said.strip().splitlines()
    fields = lines[-1].split() if len(lines) > 1 else []
    number = next((fields[at - 1] for at, field in enumerate(fields) if field.endswith("%") and at >= 1), "")
    return int(number) * 1024 if number.isdigit() else None
