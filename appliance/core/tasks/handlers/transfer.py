"""The task type file_transfer: bring a file from http, S3, the memory or this machine to an allowed directory, or to S3."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from appliance.core.tasks.handlers.folders import explained, inside, put_in_place
from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.handlers.web import CALL, check_host
from appliance.core.tasks.wire import Order
from appliance.errors import InvalidArgumentsError, ModelError, NotFoundError, TaskError

PIECE = 1 << 20
PART = re.compile(r"[0-9a-f]{8}\.part")
LEFT = 86400.0
"""Seconds after which what an attempt left beside its target, when its worker was killed, is removed by the next one."""


class Objects(Protocol):
    """Files in S3."""

    async def download(self, address: str, into: Path, largest: int) -> None:
        """One object into a new file. Raises ApplianceError."""

    async def upload(self, path: Path, address: str) -> None:
        """A file as one object. Raises ApplianceError."""


Remember = Callable[[str, str], Awaitable[Any]]
"""(key, namespace) → a value of the memory; None where there is none."""


class Transfer(Form, frozen=True, kw_only=True):
    """From where, and to where."""

    source: str
    """http(s)://…, s3://BUCKET/KEY, memory:NAMESPACE/KEY, or an absolute path."""
    target: str
    """An absolute path in one of tasks.folders, or s3://BUCKET/KEY."""
    sha256: str = ""
    """Expected digest, hexadecimal."""


class TransferHandler:
    """Brings files (implements executor.Handler).

    Args:
        folders: Directories that may be written to and read from.
        hosts: Hosts that may be called.
        largest: Bytes.
        objects: S3; None where it is not configured.
        remember: Reads the memory; None where there is none.
    """

    name = "file_transfer"
    summary = "Bring a file from http, S3 or the memory to a directory of tasks.folders, or to S3"

    def __init__(
        self, folders: Sequence[Path], hosts: Sequence[str], largest: int, objects: Objects | None = None,
        remember: Remember | None = None,
    ) -> None:  # fmt: skip
        self._folders = tuple(folders)
        self._hosts = tuple(hosts)
        self._largest = largest
        self._objects = objects
        self._remember = remember

    def available(self) -> bool:
        """See executor.Handler."""
        return bool(self._folders)

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        wanted = read(Transfer, payload, self.name)
        to_s3 = wanted.target.startswith("s3://")
        target = (
            self._folders[0] / f".{order.task_id}" if to_s3 else await asyncio.to_thread(inside, wanted.target, self._folders)
        )
        part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
        try:
            await asyncio.to_thread(_sweep, target)
            await self._fetch(wanted.source, part)
            size, digest = await asyncio.to_thread(_measure, part)
            if wanted.sha256 and digest != wanted.sha256.lower():
                raise TaskError(f"{wanted.source} has the digest {digest}, not the expected one.", "check source and sha256.")
            if to_s3:
                await self._s3().upload(part, wanted.target)
            else:
                await asyncio.to_thread(put_in_place, part, target)
        except OSError as error:
            raise explained(error, target) from error
        except ModelError as error:  # of S3: as the registry of models tells it
            raise TaskError(error.message, error.next_step, final=True) from error
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
        return {"bytes": size, "sha256": digest, "target": wanted.target}

    async def _fetch(self, source: str, part: Path) -> None:
        """Raises ApplianceError, OSError."""
        if source.startswith(("http://", "https://")):
            check_host(source, self._hosts)
            await self._download(source, part)
        elif source.startswith("s3://"):
            await self._s3().download(source, part, self._largest)
        elif source.startswith("memory:"):
            await self._recall(source.removeprefix("memory:"), part)
        elif source.startswith("/"):
            await asyncio.to_thread(self._copy, source, part)
        else:
            raise InvalidArgumentsError(
                f"{source[:100]!r} is no source.", "give http://…, s3://…, memory:NAMESPACE/KEY or /PATH."
            )

    async def _download(self, url: str, part: Path) -> None:
        import httpx

        try:
            async with (
                httpx.AsyncClient(timeout=CALL, trust_env=False) as client,
                client.stream("GET", url) as answer,
            ):
                if not answer.is_success:
                    final = answer.status_code < 500
                    raise TaskError(f"{url[:200]} was answered with {answer.status_code}.", final=final)
                await self._write(answer, part, url)
        except httpx.InvalidURL as error:
            raise InvalidArgumentsError(f"{url[:200]!r} is no address: {error}.", "write http://HOST/PATH.") from error
        except httpx.HTTPError as error:
            told = str(error) or type(error).__name__
            raise TaskError(f"{url[:200]} broke off: {told}.", "see whether that host serves.") from error

    async def _write(self, answer: Any, part: Path, url: str) -> None:
        got = 0
        with await asyncio.to_thread(part.open, "xb") as file:
            async for piece in answer.aiter_bytes(PIECE):
                got += len(piece)
                if got > self._largest:
                    raise self._too_large(url)
                await asyncio.to_thread(file.write, piece)
        expected = answer.headers.get("content-length")
        if expected is not None and "content-encoding" not in answer.headers and int(expected) != got:
            raise TaskError(f"{url[:200]} came with {got} bytes of {expected}.")

    async def _recall(self, place: str, part: Path) -> None:
        namespace, slash, key = place.partition("/")
        if not slash or self._remember is None:
            raise InvalidArgumentsError(f"memory:{place[:100]} cannot be read here.", "write memory:NAMESPACE/KEY.")
        value = await self._remember(key, namespace)
        if value is None:
            raise NotFoundError(f"The memory has no {key!r} in {namespace!r}.", "look with `prime-spark memory list`.")
        data = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else None
        if data is None:
            raise TaskError(f"{key!r} in {namespace!r} is neither text nor bytes.", final=True)
        await asyncio.to_thread(part.write_bytes, data)

    def _copy(self, source: str, part: Path) -> None:
        path = inside(source, self._folders)
        if not path.is_file():
            raise NotFoundError(f"{source} is no file.", "give a file of this worker's machine.")
        if path.stat().st_size > self._largest:
            raise self._too_large(source)
        shutil.copyfile(path, part)

    def _s3(self) -> Objects:
        if self._objects is None:
            raise InvalidArgumentsError("No S3 is configured on this worker.", "set s3.endpoint there, or take another way.")
        return self._objects

    def _too_large(self, source: str) -> TaskError:
        most = f"{self._largest / 2**20:g} MiB"
        return TaskError(f"{source[:200]} is larger than {most}.", "raise tasks.files_max_mib.", final=True)


def _sweep(target: Path) -> None:
    lead = f".{target.name[:100]}."
    for each in target.parent.iterdir() if target.parent.is_dir() else ():
        if each.name.startswith(lead) and PART.fullmatch(each.name[len(lead) :]) and time.time() - each.lstat().st_mtime > LEFT:
            each.unlink(missing_ok=True)


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return path.stat().st_size, digest
