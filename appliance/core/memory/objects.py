"""Tier 3 as objects in an S3 bucket (MinIO, SeaweedFS, AWS …): every version an object of its own; see versions and settle."""

from __future__ import annotations

import asyncio
import io
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from appliance.core.memory import codec, settle, versions
from appliance.core.memory.keys import key_id as identify
from appliance.core.memory.model import Head, Meta, Record
from appliance.core.memory.patience import pool_manager
from appliance.core.memory.threads import DaemonPool
from appliance.core.memory.tier import Diverged, Usage
from appliance.core.memory.versions import Entry
from appliance.core.model import Health, HealthReport
from appliance.errors import CorruptRecordError, MemoryTierError, TierFullError, TierUnavailableError

if TYPE_CHECKING:
    from minio import Minio
    from urllib3 import PoolManager

T = TypeVar("T")
log = logging.getLogger(__name__)

THREADS = 4
PAGE = 1000
"""Names that one request of a listing brings."""
SLOWEST = 512 * 1024
"""Bytes per second that a transfer must reach; slower ones are given up."""
PROBE = 2.4
"""Seconds for a probe of health."""
SLOW = 1.0
"""Seconds from which on an answered probe says degraded."""
COUNTING = 5.0
"""Seconds that counting everything may take."""
GONE = frozenset({"NoSuchKey", "NoSuchObject", "NoSuchVersion"})
FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"})
KEYS = frozenset({"AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "AuthorizationHeaderMalformed"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long things may take, in seconds."""

    connect: float = 2.0
    read: float = 10.0
    """Without a single byte."""
    call: float = 15.0
    """One request as a whole, waiting for a thread included; large bodies get more (see SLOWEST)."""


class ObjectReplica:
    """The memory's records in one bucket (implements tier.Replica, and settle.Shelf for itself).

    Args:
        endpoint: HOST[:PORT] of the S3 service.
        access_key: Who we are there.
        secret_key: Proves it; never shown.
        bucket: Made where it is missing.
        secure: HTTPS.
        device_id: Written beside each object, for people who look into the bucket.
        limits: For slow networks.
        largest: Most bytes of one value.
    """

    name = "objects"
    level = 3
    shared = True

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        secure: bool,
        device_id: str,
        limits: Limits | None = None,
        largest: int = codec.LARGEST,
    ) -> None:
        self._endpoint = endpoint.rpartition("//")[2].rstrip("/")
        self._keys = (access_key, secret_key)
        self._bucket = bucket
        self._secure = secure
        self._device = quote(device_id)
        self._limits = limits or Limits()
        self._largest = largest
        self._pool = DaemonPool("objects", THREADS)
        self._probes = DaemonPool("objects-probe", 1)
        self._clients: dict[str, Minio] = {}
        self._connections: list[PoolManager] = []
        self._opened = False

    def __repr__(self) -> str:
        return f"ObjectReplica({self._endpoint!r}, {self._bucket!r})"

    async def open(self) -> str:
        """Make the bucket where it is missing. Raises TierUnavailableError."""
        await self._run(self._make_bucket)
        self._opened = True
        return ""

    async def close(self) -> None:
        """Let the threads end, and give the connections back."""
        self._pool.close()
        self._probes.close()
        self._clients.clear()
        while self._connections:
            self._connections.pop().clear()

    async def health(self) -> HealthReport:
        """From a listing of one name, on a thread of its own; within 2.5 s."""
        began = time.monotonic()
        try:
            await self._run(self._look, PROBE, self._probes)
        except MemoryTierError as error:
            return HealthReport(Health.unhealthy, error.message, error.next_step)
        took = time.monotonic() - began
        if took > SLOW:
            return HealthReport(Health.degraded, f"{self._where} takes {took:.1f} s to answer", "check the network.")
        return HealthReport(Health.healthy, f"{self._where} answers")

    def accepts(self, meta: Meta) -> bool:
        """Everything within the limit."""
        return meta.size <= self._largest

    async def get(self, namespace: str, key: str) -> Record | None:
        """See tier.Replica."""
        return await settle.newest(self, namespace, identify(namespace, key))

    async def read_id(self, key_id: str) -> Record | None:
        """See tier.Replica; asks in each namespace, since the number does not tell it."""
        for namespace in await self._run(self._namespaces):
            if (record := await settle.newest(self, namespace, key_id)) is not None:
                return record
        return None

    async def put(self, record: Record, parent: str) -> Diverged | None:
        """See tier.Replica and settle."""
        return await settle.write(self, record, parent, frozenset({parent} - {""}))

    async def replace(self, record: Record, seen: tuple[str, ...]) -> Diverged | None:
        """See tier.Replica."""
        known = frozenset(seen)
        parent = record.meta.parent if record.meta.parent in known else max(known, default="")
        return await settle.write(self, record, parent, known)

    async def purge(self, namespace: str, key: str, version: str) -> None:
        """See tier.Replica."""
        await settle.purge(self, namespace, key, version)

    async def heads(self) -> AsyncIterator[Head]:
        """See tier.Replica; from names alone, a page of 1000 at a time."""
        async for group in self._groups():
            yield versions.heads(group)[0].head()

    async def usage(self) -> Usage | None:
        """Keys with a value, and bytes of all objects; None where counting takes more than 5 s."""
        keys = size = 0
        try:
            async with asyncio.timeout(COUNTING):
                async for group in self._groups():
                    keys += not versions.heads(group)[0].deleted
                    size += sum(entry.size for entry in group)
        except TimeoutError:
            return None
        return Usage(keys, size)

    async def write(self, entry: Entry, record: Record) -> None:
        """Store one object in one request, so that it is there as a whole or not at all."""
        if not self._opened:
            await self.open()

        def send() -> None:
            body = codec.encode(record)
            self._client().put_object(
                self._bucket,
                entry.name,
                io.BytesIO(body),
                len(body),
                metadata={"device": self._device},
                part_size=max(len(body), 5 * 1024 * 1024),
            )

        await self._run(send, self._limits.call + record.meta.size / SLOWEST)

    async def read(self, entry: Entry) -> Record | None:
        """One object; read once more where its checksum is wrong. Raises CorruptRecordError."""
        limit = self._limits.call + entry.size / SLOWEST
        for attempt in (1, 2):
            try:
                return await self._run(lambda: self._fetch(entry.name), limit)
            except CorruptRecordError as error:
                if attempt == 2:
                    raise
                log.warning("%s It is read once more.", error.message)
        return None

    async def remove(self, entry: Entry) -> None:
        """Remove one object; one that is gone already is no error."""
        await self._run(lambda: self._client().remove_object(self._bucket, entry.name))

    async def entries(self, namespace: str, identifier: str) -> list[Entry]:
        """All objects of one key."""
        if not self._opened:
            await self.open()
        return await self._run(lambda: list(self._listing(versions.folder(namespace, identifier))))

    @property
    def _where(self) -> str:
        return f"objects: bucket {self._bucket!r} at {self._endpoint}"

    async def _groups(self) -> AsyncIterator[list[Entry]]:
        """Everything, key by key: a listing is sorted by name, so a key's objects are neighbours."""
        if not self._opened:
            await self.open()
        listing = self._listing(versions.ROOT)
        group: list[Entry] = []
        while page := await self._run(lambda: list(itertools.islice(listing, PAGE))):
            for entry in page:
                if group and group[0].key_id != entry.key_id:
                    yield group
                    group = []
                group.append(entry)
        if group:
            yield group

    async def call(self, work: Callable[[Minio], T], limit: float) -> T:
        """Have a client do something in a thread, for others than the memory.

        Args:
            work: Blocks.
            limit: Seconds.

        Raises:
            MemoryTierError: As any call here; what `work` raises else comes as it is.
        """
        return await self._run(lambda: work(self._client()), limit)

    async def _run(self, work: Callable[[], T], limit: float | None = None, pool: DaemonPool | None = None) -> T:
        """Run a blocking call in a thread. Raises MemoryTierError."""
        if self._keys[0] and not self._keys[1]:
            raise TierUnavailableError(
                f"{self._where} has an access key, but no secret key.",
                "put it into the file secrets/s3.secret_key, or into MINIO_SECRET_KEY, and restart.",
            )
        seconds = limit or self._limits.call
        try:
            return await (pool or self._pool).run(lambda: self._translated(work), seconds)
        except TimeoutError:
            raise TierUnavailableError(
                f"{self._where} does not answer within {seconds:.1f} s.", "check the network and the server."
            ) from None

    def _translated(self, work: Callable[[], T]) -> T:
        """Run in a thread: the call, its errors said as ours. The originals may hold signed headers: they are not chained."""
        from http.client import HTTPException
        from xml.etree.ElementTree import ParseError

        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        try:
            return work()
        except MinioException as error:
            raise self._refused(error) from None
        except (HTTPError, HTTPException, OSError) as error:
            raise TierUnavailableError(
                f"{self._where} cannot be reached or broke off ({_kind(error)}).", "check the network and the server."
            ) from None
        except (ParseError, ValueError) as error:
            said = str(error)[:200]
            said = said.replace(self._keys[1], "(secret)") if self._keys[1] else said
            raise TierUnavailableError(
                f"{self._where} does not answer as S3 does: {said}.", "check the endpoint and the bucket's name."
            ) from None

    def _refused(self, error: Any) -> MemoryTierError:
        code = str(getattr(error, "code", None) or getattr(error, "_code", None) or getattr(error, "status_code", "?"))
        said = f"{self._where} refuses: {code}."
        if code in FULL or code == "507":
            return TierFullError(said, "make room there, or raise the quota.")
        if code in KEYS or code == "403":
            return TierUnavailableError(said, "check the access key, the secret key and their rights on the bucket.")
        if code == "RequestTimeTooSkewed":
            return TierUnavailableError(said, "set this machine's clock.")
        if code == "NoSuchBucket":
            return TierUnavailableError(said, "make the bucket again, or restart the appliance: it makes it.")
        return TierUnavailableError(said, "nothing to do if the server is busy: it is tried again; else see its log.")

    def _client(self, probe: bool = False) -> Minio:
        """A client with time limits of ours instead of five minutes and five silent retries."""
        kind = "probe" if probe else "calls"
        if (client := self._clients.get(kind)) is None:
            from minio import Minio

            connect, read = (1.0, 1.2) if probe else (self._limits.connect, self._limits.read)
            http = pool_manager(connect, read, THREADS)
            access, secret = self._keys
            client = Minio(self._endpoint, access_key=access, secret_key=secret, secure=self._secure, http_client=http)
            self._connections.append(http)
            client = self._clients.setdefault(kind, client)
        return client

    def _make_bucket(self) -> None:
        from minio.error import S3Error

        client = self._client()
        if client.bucket_exists(self._bucket):
            return
        try:
            client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def _look(self) -> None:
        next(iter(self._client(probe=True).list_objects(self._bucket, prefix=versions.ROOT)), None)

    def _namespaces(self) -> list[str]:
        found = self._client().list_objects(self._bucket, prefix=versions.ROOT)
        return [item.object_name.split("/")[1] for item in found if item.is_dir and item.object_name]

    def _listing(self, prefix: str) -> Iterator[Entry]:
        for item in self._client().list_objects(self._bucket, prefix=prefix, recursive=True):
            modified = item.last_modified.timestamp() if item.last_modified else 0.0
            entry = versions.parse(item.object_name or "", item.size or 0, modified)
            if entry is not None:
                yield entry

    def _fetch(self, name: str) -> Record | None:
        """Read and check one object in a thread; None where it is gone."""
        from minio.error import S3Error

        try:
            response = self._client().get_object(self._bucket, name)
        except S3Error as error:
            if error.code in GONE:
                return None
            raise
        try:
            data = response.read()
        finally:
            response.close()
            response.release_conn()
        return codec.decode(data, f"{self._where}, object {name},")


def _kind(error: BaseException) -> str:
    """The names of an error and of the one inside it; its text may hold addresses signed with our keys."""
    inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    return type(error).__name__ + (f", {type(inner).__name__}" if inner else "")
