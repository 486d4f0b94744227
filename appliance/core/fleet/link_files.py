"""Files of another machine over SFTP (implements model.RemoteFiles)."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from appliance.core.fleet.link_process import reason_of
from appliance.core.fleet.model import FileInfo
from appliance.errors import DiskFullError, NotAllowedError, NotFoundError, ShellError

BLOCK = 1 << 20
"""Bytes that are asked for at once; asyncssh splits them into requests that are under way together."""
Got = TypeVar("Got")


class SftpFiles:
    """Files of one machine.

    Args:
        client: asyncssh's SFTPClient.
        node: Name of the machine, for errors.
    """

    def __init__(self, client: Any, node: str) -> None:
        self._client, self._node = client, node

    async def stat(self, path: str) -> FileInfo:
        """See model.RemoteFiles."""
        with self._told(path):
            attributes = await self._client.lstat(path)
            link = await self._client.readlink(path) if stat.S_ISLNK(attributes.permissions or 0) else None
        return _info(path, attributes, link)

    async def list(self, path: str) -> Sequence[FileInfo]:
        """See model.RemoteFiles."""
        with self._told(path):
            names = await self._client.readdir(path)
        base = path.rstrip("/")
        found = [_info(f"{base}/{each.filename}", each.attrs, None) for each in names if each.filename not in (".", "..")]
        return sorted(found, key=lambda each: each.path)

    async def read(self, path: str, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """See model.RemoteFiles."""
        with self._told(path):
            async with self._client.open(path, "rb") as file:
                left = size
                while left is None or left > 0:
                    block = await file.read(BLOCK if left is None else min(BLOCK, left), offset)
                    if not block:
                        return
                    offset += len(block)
                    left = None if left is None else left - len(block)
                    yield block

    async def write(self, path: str, blocks: AsyncIterator[bytes], *, offset: int = 0, mode: int = 0o644) -> int:
        """See model.RemoteFiles."""
        import asyncssh

        flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT
        written = 0
        try:
            async with self._client.open(path, flags, asyncssh.SFTPAttrs(permissions=mode), encoding=None) as file:
                await file.truncate(offset)
                async for block in blocks:
                    await file.write(block, offset + written)
                    written += len(block)
                await self._flush(file)
        except (OSError, asyncssh.Error) as error:
            raise await self._unwritten(path, error) from error
        return written

    async def _flush(self, file: Any) -> None:
        """To the disk there; a server without that extension has no way to it."""
        import asyncssh

        try:
            await file.fsync()
        except asyncssh.SFTPOpUnsupported:
            return

    async def _unwritten(self, path: str, error: Exception) -> Exception:
        """Why a write failed: SFTP has no word for a full disk, so the file system is asked."""
        import asyncssh

        folder = path.rpartition("/")[0] or ("/" if path.startswith("/") else ".")
        if isinstance(error, asyncssh.SFTPFailure):
            try:
                space = await self._client.statvfs(folder)
            except (OSError, asyncssh.Error):
                return self._error(path, error)
            if space.bavail == 0 or (space.favail == 0 and space.files):
                return DiskFullError(f"{self._node}: the disk of {path} is full.", "make room there, and do it again.")
        return self._error(path, error)

    async def rename(self, old: str, new: str) -> None:
        """See model.RemoteFiles."""
        await self._do(new, self._client.posix_rename(old, new))

    async def remove(self, path: str) -> None:
        """See model.RemoteFiles."""
        with self._told(path):
            if stat.S_ISDIR((await self._client.lstat(path)).permissions or 0):
                await self._client.rmdir(path)
            else:
                await self._client.remove(path)

    async def make_folder(self, path: str, mode: int = 0o755) -> None:
        """See model.RemoteFiles."""
        import asyncssh

        await self._do(path, self._client.makedirs(path, asyncssh.SFTPAttrs(permissions=mode), exist_ok=True))

    async def set(self, path: str, *, mode: int | None = None, modified: float | None = None) -> None:
        """See model.RemoteFiles."""
        if mode is not None:
            await self._do(path, self._client.chmod(path, mode))
        if modified is not None:
            await self._do(path, self._client.utime(path, (modified, modified)))

    async def _do(self, path: str, work: Awaitable[Got]) -> Got:
        with self._told(path):
            return await work

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        import asyncssh

        try:
            yield
        except (OSError, asyncssh.Error) as error:
            raise self._error(path, error) from error

    def _error(self, path: str, error: Exception) -> Exception:
        import asyncssh

        where = f"{self._node}:{path}"
        if isinstance(error, (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)):
            return NotFoundError(f"There is no {where}.", "look at the folder above it.")
        if isinstance(error, (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect)):
            return NotAllowedError(f"{where}: permission denied.", "give that user access, or log in there as another one.")
        if isinstance(error, (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)):
            return DiskFullError(f"{where}: the disk there is full.", "make room there, and do it again.")
        if isinstance(error, asyncssh.SFTPError) and not isinstance(
            error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
        ):
            return ShellError(f"{where}: {reason_of(error)}.", "look at that file and its folder there.")
        return ShellError(f"{self._node} was cut off at {path}: {reason_of(error)}.", "look what is there, and do it again.")


def _info(path: str, attributes: Any, link: Any) -> FileInfo:
    mode = int(attributes.permissions or 0)
    return FileInfo(
        path=path, size=int(attributes.size or 0), mode=mode, modified=float(attributes.mtime or 0),
        owner=int(attributes.uid or 0), group=int(attributes.gid or 0),
        is_folder=stat.S_ISDIR(mode), link_to=None if link is None else str(link),
    )  # fmt: skip
