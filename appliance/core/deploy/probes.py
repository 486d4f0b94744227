"""Single health checks of a replica: HTTP, TCP, command, container. Each says what is wrong, or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.deploy.hands import Carrier, Remote, filled, said
from appliance.core.deploy.model import Replica
from appliance.core.deploy.spec import Health, ServiceSpec
from appliance.errors import ApplianceError, ShellError

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

LARGEST = 1 << 20
"""Bytes of an answer that are read; what is longer is wrong."""
SHOWN = 80


class ProbeError(ApplianceError):
    """A replica gave no answer that could be read."""

    code = "probe"


class Probes:
    """Looks at replicas.

    Args:
        remote: Commands on nodes.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._client: httpx.AsyncClient | None = None

    async def check(self, spec: ServiceSpec, replica: Replica, carrier: Carrier) -> str:
        """What is wrong with a replica; empty where all is well.

        Raises:
            ShellError: The node does not answer: nothing is known of the replica (kinds "command", "container", "none").
        """
        health = spec.health
        try:
            async with asyncio.timeout(health.timeout):
                return await self._check(spec, replica, carrier)
        except TimeoutError:
            return f"no answer within {health.timeout:g} s"

    async def _check(self, spec: ServiceSpec, replica: Replica, carrier: Carrier) -> str:
        kind = spec.health.kind
        if kind == "http":
            return await self._http(spec.health, replica)
        if kind == "tcp":
            return await _tcp(replica)
        if kind == "command":
            return await self._command(spec.health, replica)
        try:
            found = await carrier.find(spec, replica)
        except ShellError:
            raise
        except ApplianceError as error:
            return error.message
        if not found.running:
            return found.reason or "it does not run"
        if kind == "container" and found.healthy is not True:
            return found.reason or "its container has not been found healthy yet"
        return found.reason

    async def _command(self, health: Health, replica: Replica) -> str:
        command = ("sh", "-c", filled(health.command, replica))
        ran = await self._remote.try_(replica.node, command, limit=health.timeout)
        return "" if ran.exit_status == 0 else f"the command ended with {ran.exit_status}: {said(ran)}"

    async def _http(self, health: Health, replica: Replica) -> str:
        try:
            status, body = await self._get(health, replica, health.path)
        except ProbeError as error:
            return error.message
        return judged(health, status, body)

    async def _get(self, health: Health, replica: Replica, path: str) -> tuple[int, bytes]:
        """Raises ProbeError."""
        import httpx

        if self._client is None:
            limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
            verify = await asyncio.to_thread(ssl.create_default_context)
            self._client = httpx.AsyncClient(limits=limits, trust_env=False, verify=verify, follow_redirects=False)
        host = f"[{replica.address}]" if ":" in replica.address else replica.address
        url = f"{health.scheme}://{host}:{replica.port}{path}"
        headers = {"user-agent": "prime-spark-health", "connection": "close", "accept-encoding": "identity"}
        try:
            async with self._client.stream("GET", url, headers=headers, timeout=health.timeout) as answer:
                body = b""
                async for part in answer.aiter_raw():  # never unpacked: a few bytes may become gigabytes
                    body += part
                    if len(body) > LARGEST:
                        raise ProbeError(f"it answers more than {LARGEST >> 20} MiB")
                return answer.status_code, body
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProbeError(f"{type(error).__name__}: {str(error)[:SHOWN] or 'the connection broke'}") from error

    async def figure(self, spec: ServiceSpec, replica: Replica, place: str) -> float | None:
        """A number that a replica tells of itself; None where it does not.

        Args:
            spec: Its specification.
            replica: It.
            place: "/PATH#where.in.its.JSON".
        """
        path, _, where = place.partition("#")
        try:
            async with asyncio.timeout(spec.health.timeout):
                status, body = await self._get(spec.health, replica, path)
            value = at(msgspec.json.decode(body), where) if status == 200 else None
        except (ProbeError, TimeoutError, msgspec.DecodeError) as error:
            log.info("%s at %s:%d tells no %s: %s", spec.name, replica.node, replica.port, place, error)
            return None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    async def close(self) -> None:
        """Let go of the client."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def judged(health: Health, status: int, body: bytes) -> str:
    """What is wrong with an answer; empty where it is as it should be.

    Args:
        health: What is expected.
        status: Of the answer.
        body: Of the answer.
    """
    text = body.decode(errors="replace")
    if status not in health.status:
        return f"status {status} instead of {' or '.join(map(str, health.status))}"
    if health.body and health.body not in text:
        return f"status {status}, but the answer does not hold {health.body[:SHOWN]!r}: {text[:SHOWN]!r}"
    if not health.json:
        return ""
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        return f"status {status}, but the answer is no JSON: {error}"
    for path, wanted in health.json.items():
        found = at(document, path)
        if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
            return f"status {status}, but {path} is {found!r} instead of {wanted!r}"[:400]
    return ""


def at(document: Any, path: str) -> Any:
    """A value in JSON by its path, such as "database.status"; None where there is none."""
    for name in path.split("."):
        if isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        elif isinstance(document, dict) and name in document:
            document = document[name]
        else:
            return None
    return document


async def _tcp(replica: Replica) -> str:
    try:
        _, writer = await asyncio.open_connection(replica.address, replica.port)
    except OSError as error:
        return f"no connection: {error.strerror or error}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""
