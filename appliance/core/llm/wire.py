"""HTTP to one endpoint: lines as they come, bounded, with every failure as one of ours."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.llm.faults import Fault, LlmError

if TYPE_CHECKING:
    import httpx

CONNECT = 3.0
"""Seconds for a connection, and its TLS."""
LINE = 4 * 1024 * 1024
"""Bytes of one line; a longer one is no answer of a model."""
BODY = 32 * 1024 * 1024
"""Bytes of a whole answer that is not streamed: embeddings, lists of models."""
TOLD = 400
"""Characters of an endpoint's own words that are repeated."""
LONGEST_PAUSE = 3600.0
"""Seconds; a longer Retry-After is not believed."""
LINGER = 0.2
"""Seconds that an endpoint has for closing its answer."""
JSON = {"content-type": "application/json"}
TOO_LONG = ("context length", "context size", "context_length", "exceed_context", "context window", "maximum context")


class Wire:
    """Speaks HTTP with one server; connections are kept.

    Args:
        url: Its address, without a slash at the end.
        key: Sent as a bearer token; empty for none.
        most: Connections.
    """

    def __init__(self, url: str, key: str = "", most: int = 100) -> None:
        import httpx  # brings rich along where that is installed: nothing of it is loaded without an endpoint

        headers = {"authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=most, keepalive_expiry=60.0)
        timeout = httpx.Timeout(None, connect=CONNECT)
        self._url = url
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.aclose()

    async def fetch(self, method: str, path: str, body: bytes | None = None, patience: float = 10.0) -> Any:
        """A whole JSON document, with `patience` seconds for each part of it. Raises LlmError."""
        async with self._answer(method, path, body, patience) as answer:
            content = bytearray()
            async with aclosing(self._pieces(answer)) as pieces:
                async for piece in pieces:
                    content += piece
                    if len(content) > BODY:
                        raise LlmError(Fault.garbled, f"{self._url} answered with more than {BODY} bytes.")
        return document(bytes(content), self._url)

    async def lines(self, path: str, body: bytes, stall: float) -> AsyncGenerator[bytes]:
        """The lines of a streamed answer, without their ends; the last one may lack its own. Raises LlmError.

        Args:
            path: Where.
            body: JSON.
            stall: Longest silence, seconds.
        """
        async with self._answer("POST", path, body, stall) as answer, aclosing(self._pieces(answer)) as pieces:
            rest = b""
            async for piece in pieces:
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line
                if len(rest) > LINE:
                    raise LlmError(Fault.garbled, f"{self._url} sent a line of more than {LINE} bytes.")
            if rest:
                yield rest

    @asynccontextmanager
    async def _answer(self, method: str, path: str, body: bytes | None, silence: float) -> AsyncIterator[httpx.Response]:
        import httpx

        patience = httpx.Timeout(silence, connect=min(CONNECT, silence))
        request = self._client.build_request(method, path, content=body, headers=JSON if body else None, timeout=patience)
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.TimeoutException as error:
            kind = Fault.dead if isinstance(error, httpx.ConnectTimeout) else Fault.slow
            raise LlmError(kind, f"{self._url} did not answer in time.", "see whether it runs, and how busy it is.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            told = str(error) or type(error).__name__
            raise LlmError(Fault.dead, f"{self._url} does not answer: {told}.", "see whether it runs.") from error
        try:
            if answer.is_error:
                raise await self._refusal(answer)
            yield answer
        finally:
            await answer.aclose()

    async def _pieces(self, answer: httpx.Response) -> AsyncGenerator[bytes]:
        import httpx

        try:
            async for piece in answer.aiter_bytes():
                yield piece
        except httpx.TimeoutException as error:
            raise LlmError(Fault.cut, f"{self._url} fell silent in the middle of its answer.") from error
        except httpx.HTTPError as error:
            told = str(error) or type(error).__name__
            raise LlmError(Fault.cut, f"{self._url} broke off its answer: {told}.") from error

    async def _refusal(self, answer: httpx.Response) -> LlmError:
        import httpx

        content = bytearray()
        try:
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > 64 * 1024:
                    break
        except httpx.HTTPError as error:
            content += f" (and it broke off: {error})".encode()
        told = words(bytes(content))
        fault, step = fault_of(answer.status_code, told, "retry-after" in answer.headers)
        after = pause(answer.headers.get("retry-after"))
        return LlmError(fault, f"{self._url} answered {answer.status_code}: {told}", step, after)


async def drain(lines: AsyncGenerator[bytes]) -> None:
    """Read what comes after an answer's end, so that its connection can be used again; one that lingers is closed."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            async for _ in lines:
                pass


def document(content: bytes, url: str) -> Any:
    """JSON. Raises LlmError."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        shown = content[:80].decode(errors="replace")
        raise LlmError(Fault.garbled, f"{url} sent what is no JSON ({error}): {shown!r}.") from error


def words(content: bytes) -> str:
    """What an error's body says: Ollama's {"error": TEXT}, OpenAI's {"error": {"message": TEXT}}, or the text itself."""
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        found = None
    told = found.get("error") if isinstance(found, dict) else None
    if isinstance(told, dict):
        told = " ".join(str(told[name]) for name in ("message", "code", "type") if told.get(name))
    text = told if isinstance(told, str) and told else content.decode(errors="replace")
    return " ".join(text.split())[:TOLD] or "nothing"


def fault_of(status: int, told: str, named_time: bool) -> tuple[Fault, str]:
    """The kind of a refusal, and the next step."""
    low = told.lower()
    if status == 429 or (status == 503 and named_time):
        return Fault.busy, "wait; or add another endpoint."
    if status in {401, 403}:
        return Fault.refused, "put its key into the secret that the endpoint names (llm.endpoints.NAME.secret)."
    if status in {400, 413, 422, 500} and any(each in low for each in TOO_LONG):
        return Fault.too_long, "shorten the prompt, or take a model with a larger context."
    if status == 404:
        return (Fault.no_model, "see `prime-spark llm models`.") if "model" in low else (Fault.bad, "see llm.endpoints' url.")
    if status >= 500 or status == 408:
        return Fault.broken, "see its log."
    return Fault.bad, "mend the request."


def pause(text: str | None) -> float | None:
    """Retry-After (RFC 9110, 10.2.3): seconds or a date; None where there is none that can be believed."""
    if not text:
        return None
    if text.strip().isdigit():
        return min(float(text), LONGEST_PAUSE)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return min(max(0.0, when.timestamp() - time.time()), LONGEST_PAUSE)
