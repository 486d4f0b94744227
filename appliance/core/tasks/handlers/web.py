"""The task type http: one request to a host that the settings allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.wire import Order
from appliance.errors import InvalidArgumentsError, NotAuthorizedError, TaskError

if TYPE_CHECKING:
    import httpx

BODY = 128 * 1024
"""Most bytes of an answer that are kept."""
CALL = 60.0
"""Seconds for connecting, and between two pieces of an answer."""


class Request(Form, frozen=True, kw_only=True):
    """One request."""

    url: str
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    json: Any = None
    body: str = ""
    expect: tuple[int, ...] = ()
    """Statuses that count as success; 200 to 299 where none is named."""


class HttpHandler:
    """Calls (implements executor.Handler).

    Args:
        hosts: Allowed ones: "HOST", "HOST:PORT", "*.DOMAIN".
    """

    name = "http"
    summary = "Call a host of tasks.http_hosts"

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = tuple(hosts)

    def available(self) -> bool:
        """See executor.Handler."""
        return bool(self._hosts)

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        wanted = read(Request, payload, self.name)
        check_host(wanted.url, self._hosts)
        import httpx

        headers = {"Idempotency-Key": f"{order.task_id}", **wanted.headers}
        if wanted.json is not None and wanted.body:
            raise InvalidArgumentsError("The payload has both json and body.", "give one of them.")
        given: dict[str, Any] = {"json": wanted.json} if wanted.json is not None else {"content": wanted.body or None}
        try:
            async with (
                httpx.AsyncClient(timeout=CALL, trust_env=False) as client,
                client.stream(wanted.method, wanted.url, headers=headers, **given) as answer,
            ):
                body, left = await _body(answer)
        except (httpx.LocalProtocolError, UnicodeEncodeError) as error:  # nothing was sent: it would be the same again
            told = f"{wanted.method} {wanted.url[:200]} cannot be sent: {error}."
            raise InvalidArgumentsError(told, "look at its headers: plain ASCII, no line breaks.") from error
        except httpx.InvalidURL as error:
            raise InvalidArgumentsError(f"{wanted.url[:200]!r} is no address: {error}.", "write http://HOST/PATH.") from error
        except httpx.HTTPError as error:
            told = str(error) or type(error).__name__
            raise TaskError(f"{wanted.method} {wanted.url[:200]} failed: {told}.", "see whether that host serves.") from error
        good = answer.status_code in wanted.expect if wanted.expect else answer.is_success
        if not good:
            retriable = answer.status_code >= 500 or answer.status_code in {408, 425, 429}
            told = f"{wanted.method} {wanted.url[:200]} was answered with {answer.status_code}: {body[:300]}"
            raise TaskError(told, final=not retriable)
        kept = {name: value for name, value in answer.headers.items() if name in {"content-type", "etag", "location"}}
        return {"status": answer.status_code, "headers": kept, "body": body, "left_out_bytes": left}


def check_host(url: str, hosts: Sequence[str]) -> None:
    """Raises InvalidArgumentsError, NotAuthorizedError."""
    try:
        parts = urlsplit(url)
        name, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise InvalidArgumentsError(f"{url[:200]!r} is no address: {error}.", "write http://HOST/PATH.") from error
    if parts.scheme not in {"http", "https"} or not name or parts.username or parts.password:
        raise InvalidArgumentsError(f"{url[:200]!r} is no plain http or https address.", "write http://HOST/PATH.")
    place = f"{name}:{port or (443 if parts.scheme == 'https' else 80)}"
    for each in hosts:
        wanted = each.lower().strip("[]") if each.count(":") > 1 else each.lower()
        if wanted in {name, place} or (wanted.startswith("*.") and name.endswith(wanted[1:])):
            return
    step = f"add it to tasks.http_hosts ({', '.join(hosts)}); for agents: to agents.http_hosts, then agent upgrade."
    raise NotAuthorizedError(f"Tasks may not call {name} from here.", step)


async def _body(answer: httpx.Response) -> tuple[str, int]:
    kept, left = bytearray(), 0
    async for piece in answer.aiter_bytes():
        room = BODY - len(kept)
        kept += piece[:room]
        left += max(0, len(piece) - room)
    try:
        return kept.decode(answer.charset_encoding or "utf-8", errors="replace"), left
    except LookupError:  # the server names an encoding that nobody knows
        return kept.decode(errors="replace"), left
