"""Requests over HTTP to servers that may be slow, dead, or talk too much; and what their answers mean."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from appliance.core.alerts.channels.model import DeliveryError, Notice
from appliance.core.alerts.channels.rendering import one_line

if TYPE_CHECKING:
    import httpx

LARGEST = 16_384
"""Bytes of an answer that are read."""
SHOWN = 200
"""Characters of it that are kept."""
LONGEST_WAIT = 3600.0
"""Longest time that a server can make us wait, seconds."""
AGAIN = frozenset({408, 425, 429})
"""Answers of 4xx after which another try makes sense."""


class Adapter(Protocol):
    """One channel's way out."""

    hidden: tuple[str, ...]
    """What must not be seen in records and logs."""

    async def send(self, notice: Notice, delivery_id: str, wall: float) -> str:
        """Deliver a message; returns what the other side answered. Raises DeliveryError."""

    async def close(self) -> None:
        """Let go of everything."""


class Poster:
    """A client for one server.

    Args:
        timeout: Longest wait for the whole answer, seconds.
        ca_file: Certificates (PEM) that are trusted; None for the system's.
    """

    def __init__(self, timeout: float, ca_file: Path | None = None) -> None:
        self._timeout = timeout
        self._ca_file = ca_file
        self._client: httpx.AsyncClient | None = None

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> str:
        """Send a request; returns status and beginning of the answer.

        Raises:
            DeliveryError: It was not taken. The message does not name the address: that may hold a secret.
        """
        import httpx

        host = _host(url)
        try:
            async with asyncio.timeout(self._timeout):
                status, reason, said, after = await self._exchange(method, url, headers, body)
        except TimeoutError:
            told = f"{host} did not answer within {self._timeout:g} s"
            raise DeliveryError(told, "see whether it runs; it is tried again.", retry=True) from None
        except httpx.TransportError as error:
            if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):  # its words quote headers
                raise _unfit(host, error) from None
            told = one_line(str(error), SHOWN) or "the connection broke"
            raise DeliveryError(f"{host}: {type(error).__name__}: {told}", _step(error), retry=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as error:
            raise _unfit(host, error) from None
        answer = one_line(f"{status} {reason} {said}", SHOWN)
        if 200 <= status < 300:
            return answer
        raise refusal(status, f"{host} answered {answer}", after)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, str, float | None]:
        client = self._client
        if client is None:
            client = self._client = await asyncio.to_thread(self._make)
        async with client.stream(method, url, headers=dict(headers), content=body) as answer:
            said = b""
            async for part in answer.aiter_raw():  # never unpacked: a few bytes may become gigabytes
                said += part
                if len(said) > LARGEST:
                    break
            after = retry_after(answer.headers.get("retry-after", ""))
            return answer.status_code, answer.reason_phrase, said[:LARGEST].decode(errors="replace"), after

    def _make(self) -> httpx.AsyncClient:
        import httpx

        for name in ("httpx", "httpcore"):  # they log whole addresses, and some hold a token
            logging.getLogger(name).setLevel(logging.WARNING)
        verify = ssl.create_default_context(cafile=str(self._ca_file) if self._ca_file else None)
        limits = httpx.Limits(max_connections=4, max_keepalive_connections=0)
        headers = {"user-agent": "prime-spark-alerts", "accept-encoding": "identity"}
        return httpx.AsyncClient(
            verify=verify, limits=limits, headers=headers, timeout=self._timeout, trust_env=False, follow_redirects=False
        )

    async def close(self) -> None:
        """Let go of the client."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def _unfit(host: str, error: Exception) -> DeliveryError:
    told = f"the request to {host} cannot be made ({type(error).__name__})"
    return DeliveryError(told, "mend url, headers and secret of the channel.")


def refusal(status: int, told: str, after: float | None = None) -> DeliveryError:
    """What an answer means that is no success.

    Args:
        status: Of HTTP.
        told: The answer in words.
        after: Seconds that it asked us to wait.
    """
    if status in {401, 403, 407}:
        return DeliveryError(told, "see the channel's secret and username, and what that account may do.")
    if status in {404, 410}:
        return DeliveryError(told, "see the channel's url and topic.")
    if 300 <= status < 400:
        return DeliveryError(told, "set the address that it points to: redirections are not followed.")
    if status in AGAIN or status >= 500:
        return DeliveryError(told, "it is tried again.", retry=True, after=after)
    return DeliveryError(told, "see what the channel sends (`prime-spark alert test`), and mend its settings.")


def retry_after(text: str) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3), within reason; None where there is none that can be read."""
    if text.strip().isdigit():
        return min(float(text.strip()[:12]), LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), LONGEST_WAIT)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or "the server"
    except ValueError:
        return "the server"


def _step(error: Exception) -> str:
    if "CERTIFICATE" in str(error).upper():
        return "set ca_file to the authority that signed its certificate, or see this machine's clock."
    return "see whether it runs and can be reached; it is tried again."
