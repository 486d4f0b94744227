"""Whole files in S3, for what is no value of the memory: archives of models, clips."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from appliance.core.memory.objects import SLOWEST, ObjectReplica
from appliance.errors import DiskFullError, MemoryTierError, ModelError

T = TypeVar("T")
PIECE = 1 << 20
PART = 16 << 20
"""Bytes of one part of a stream; 10 000 parts are the most that S3 takes, so that one object has 156 GiB at most."""
CALL = 15.0
"""Seconds for one request, beside what its bytes take at the slowest rate."""


def split_address(address: str) -> tuple[str, str]:
    """Bucket and key of s3://BUCKET/KEY. Raises ModelError."""
    scheme, _, rest = address.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket or not key:
        raise ModelError(f"{address} is no address in S3.", "write s3://BUCKET/KEY.")
    return bucket, key


class ObjectFiles:
    """Downloads, uploads and lists (implements registry.intake.Remote).

    Args:
        objects: The connection.
    """

    def __init__(self, objects: ObjectReplica) -> None:
        self._objects = objects

    async def close(self) -> None:
        """Let the connection go."""
        await self._objects.close()

    async def download(self, address: str, into: Path, largest: int) -> None:
        """One object into a new file; it is whole there when this returns.

        Args:
            address: s3://BUCKET/KEY.
            into: Must not exist; whoever calls removes it after a failure.
            largest: Bytes.

        Raises:
            ModelError: It is not there, or larger.
            MemoryTierError: S3 does not answer, refuses, or broke off.
            DiskFullError: No room.
        """
        bucket, key = split_address(address)

        def work(client: Any) -> None:
            size = _size(client, bucket, key, address)
            if size > largest:
                raise ModelError(
                    f"{address} has {size / 2**20:.0f} MiB; the limit is {largest / 2**20:.0f} MiB.",
                    "raise models.version_max_mib.",
                )
            _fetch(client, bucket, key, into, size)

        await self._objects.call(work, CALL + largest / SLOWEST)

    async def upload(self, path: Path, address: str) -> None:
        """A file as one object; whole there when this returns. Raises MemoryTierError, ModelError."""
        bucket, key = split_address(address)
        size = await asyncio.to_thread(lambda: path.stat().st_size)
        await self._objects.call(lambda client: client.fput_object(bucket, key, str(path)), CALL + size / SLOWEST)

    async def send(self, address: str, source: Any, limit: float) -> None:
        """A stream of unknown length as one object; whole there when this returns, and not there where it fails.

        Args:
            address: s3://BUCKET/KEY.
            source: Has `read`; what that raises ends it.
            limit: Seconds. When they are over `source` is read on until it raises: its owner has to see to that.

        Raises:
            MemoryTierError: S3 does not answer, refuses, or broke off.
            ModelError: That is no address.
        """
        bucket, key = split_address(address)

        def work(client: Any) -> None:
            client.put_object(bucket, key, source, -1, part_size=PART, num_parallel_uploads=1)

        await self._objects.call(work, limit)

    async def receive(self, address: str, take: Callable[[Iterator[bytes]], T], limit: float) -> T:
        """Have an object's bytes read, in a thread. Raises MemoryTierError, ModelError, and what `take` raises."""
        bucket, key = split_address(address)

        def work(client: Any) -> T:
            response: Any = client.get_object(bucket, key)
            try:
                return take(response.stream(PIECE))
            finally:
                response.close()
                response.release_conn()

        return await self._objects.call(work, limit)

    async def remove(self, address: str) -> None:
        """Remove an object; one that is not there is no fault. Raises MemoryTierError, ModelError."""
        bucket, key = split_address(address)
        await self._objects.call(lambda client: client.remove_object(bucket, key), CALL)

    async def list(self, address: str) -> list[tuple[str, int]]:
        """Names and sizes below s3://BUCKET/PREFIX/, without the prefix; 1000 at most. Raises MemoryTierError, ModelError."""
        bucket, prefix = split_address(address)

        def work(client: Any) -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = []
            for item in client.list_objects(bucket, prefix=prefix, recursive=True):
                found.append((str(item.object_name)[len(prefix) :], item.size or 0))
                if len(found) >= 1000:
                    break
            return found

        return await self._objects.call(work, 2 * CALL)


def _size(client: Any, bucket: str, key: str, address: str) -> int:
    try:
        return int(client.stat_object(bucket, key).size or 0)
    except Exception as error:  # whatever it is goes on, but for an object that is not there
        if getattr(error, "code", "") in {"NoSuchKey", "NoSuchBucket", "NoSuchObject"}:
            raise ModelError(f"{address} is not there.", "check the address.") from None
        raise


def _fetch(client: Any, bucket: str, key: str, into: Path, size: int) -> None:
    response: Any = client.get_object(bucket, key)
    try:
        got = 0
        with into.open("xb") as file:
            for piece in response.stream(PIECE):
                got += len(piece)
                if got > size:
                    break
                _write(file, piece, into)
    finally:
        response.close()
        response.release_conn()
    if got != size:
        raise MemoryTierError(f"{key} came with {got} bytes of {size}.", "it is tried again; else see the server's log.")


def _write(file: Any, piece: bytes, into: Path) -> None:
    import errno

    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(f"{into.parent} is full.", "make room.") from error
        raise ModelError(f"{into.parent} cannot be written: {error.strerror}.", "look at the disk.") from error
