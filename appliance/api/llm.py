"""What the doors to the language models share: who asks, how large a request may be, and what ends when a caller goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from appliance.api.gone import departure, unless_gone
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import Answer, Place, Privacy, Strategy, Wishes
from appliance.core.llm.model import Request as Wanted
from appliance.core.llm.refusals import plain
from appliance.core.llm.service import LlmService
from appliance.core.model import Actor, Role
from appliance.errors import (
    AbsentError,
    ApplianceError,
    AuthError,
    InvalidArgumentsError,
    NotAuthorizedError,
    NotFoundError,
    NotRunningError,
)

if TYPE_CHECKING:
    from appliance.core.llm.stream import Stream

T = TypeVar("T")
ActorOf = Callable[[Request], Actor]
Allow = Callable[[Request, str], None]
Handler = Callable[[Request], Awaitable[Response]]
ErrorForm = Callable[[ApplianceError, int], dict[str, Any]]
MIB = 2**20
PREFIX = "x-prime-spark-"
"""Of the headers by which a caller asks for a way: -privacy, -place, -endpoint, -strategy, -max-cost, -hedge, -cache."""
BOOLS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class Door:
    """One front to the gateway.

    Args:
        service: The gateway.
        actor_of: Tells who sends a request. Raises AuthError, NotAuthorizedError.
        allow: Raises NotAuthorizedError where a token's scopes do not reach an action.
        form: An error as this door's clients know it.
    """

    def __init__(self, service: LlmService, actor_of: ActorOf, allow: Allow | None, form: ErrorForm) -> None:
        self.service = service
        self._actor_of = actor_of
        self._allow = allow
        self._form = form

    def who(self, request: Request, action: str, least: Role = Role.operator) -> str:
        """The name of whoever asks, if they may. Raises AuthError, NotAuthorizedError."""
        actor = self._actor_of(request)
        if self._allow is not None:
            self._allow(request, action)
        if actor.role < least:
            told = f"{action} needs the role {least.name}; {actor.name} is {actor.role.name}."
            raise NotAuthorizedError(told, f"log in as a user with the role {least.name}.")
        return actor.name

    async def body(self, request: Request) -> dict[str, Any]:
        """The request's JSON object, never more than the settings take. Raises LlmError, InvalidArgumentsError."""
        most = int(self.service.settings.request_mib * MIB)
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > most:
                told = f"The request has more than {self.service.settings.request_mib:g} MiB."
                raise LlmError(Fault.too_large, told, "shorten it, or raise llm.request_mib.")
        try:
            found = msgspec.json.decode(content) if content else {}
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidArgumentsError(f"The body is no JSON: {error}.", "send a JSON object.") from error
        if not isinstance(found, dict):
            raise InvalidArgumentsError("The body is no JSON object.", "send a JSON object.")
        return found

    async def open(self, request: Request, wanted: Wanted, who: str) -> Stream:
        """The answer as soon as it begins; given up where the caller goes. Raises LlmError, ClientDisconnect."""
        opening = asyncio.ensure_future(self.service.gateway.open(wanted, who))
        try:
            return await unless_gone(request, opening)
        except (ClientDisconnect, asyncio.CancelledError):
            result = (await asyncio.gather(opening, return_exceptions=True))[0]
            if not isinstance(result, BaseException):
                await result.aclose()
            raise

    async def whole(self, request: Request, wanted: Wanted, who: str) -> Answer:
        """The whole answer; given up where the caller goes. Raises LlmError, ClientDisconnect."""
        from appliance.core.llm.stream import whole

        async def answered() -> Answer:
            stream = await self.service.gateway.open(wanted, who)
            try:
                return await whole(stream)
            finally:
                await stream.aclose()

        return await unless_gone(request, asyncio.ensure_future(answered()))

    def handler(self, work: Callable[[Request], Coroutine[Any, Any, Response]]) -> Handler:
        """A route whose errors have this door's form."""

        async def handle(request: Request) -> Response:
            try:
                return await work(request)
            except ApplianceError as error:
                return self.refusal(error)
            except ClientDisconnect:
                return Response(status_code=499)  # to nobody

        return handle

    def refusal(self, error: ApplianceError) -> Response:
        """An error as an answer."""
        status = status_of(error)
        headers = {}
        if isinstance(error, LlmError) and error.retry_after is not None:
            headers["retry-after"] = str(max(1, round(error.retry_after)))
        return reply(self._form(error, status), status, headers)


class Streamed(StreamingResponse):
    """A stream that ends at once, here and at the endpoint, where its reader goes.

    Args:
        stream: The answer.
        lines: What is sent of it.
        media_type: Of the lines.
    """

    def __init__(self, stream: Stream, lines: AsyncGenerator[bytes], media_type: str) -> None:
        # "identity": a compressing middleware would hold tokens back until it has enough of them
        headers = {**way(stream), "cache-control": "no-store", "content-encoding": "identity"}
        super().__init__(lines, media_type=media_type, headers=headers)
        self._stream, self._lines = stream, lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI)."""
        sending = asyncio.ensure_future(self.stream_response(send))
        gone = asyncio.ensure_future(departure(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            result = (await asyncio.gather(sending, return_exceptions=True))[0]
            await self._lines.aclose()
            await self._stream.aclose()
        if isinstance(result, Exception) and not isinstance(result, OSError):  # the reader's connection is not ours to mend
            raise result


def way(stream: Stream) -> dict[str, str]:
    """Headers that tell where an answer comes from, and why."""
    return _way(stream.choice.endpoint, stream.choice.place, stream.choice.why, cached=stream.cached)


def way_of(answer: Answer) -> dict[str, str]:
    """The same headers of a whole answer."""
    return _way(answer.endpoint, answer.place, answer.why, cached=answer.cached)


def _way(endpoint: str, place: Place, why: str, *, cached: bool) -> dict[str, str]:
    told = {"endpoint": endpoint, "place": place.value, "why": plain(why), "cached": "yes" if cached else "no"}
    return {f"{PREFIX}{name}": value.encode("ascii", "replace").decode() for name, value in told.items()}


def told(answer: Answer) -> dict[str, Any]:
    """What an answer says of its way, as the field `prime_spark` at its end."""
    return {
        "endpoint": answer.endpoint, "place": answer.place.value, "why": answer.why, "cost": answer.cost,
        "cached": answer.cached, "first_token_ms": answer.first_token_ms, "latency_ms": answer.latency_ms,
        "left_house_bytes": answer.left_house_bytes,
    }  # fmt: skip


def wishes(headers: Mapping[str, str]) -> Wishes:
    """What the headers ask for. Raises InvalidArgumentsError."""
    given = {name: headers.get(PREFIX + name, "").strip().lower() for name in
             ("privacy", "place", "strategy", "max-cost", "hedge", "cache")}  # fmt: skip
    try:
        return Wishes(
            Privacy(given["privacy"] or "any"), Strategy(given["strategy"]) if given["strategy"] else None,
            Place(given["place"]) if given["place"] else None, headers.get(PREFIX + "endpoint", "").strip(),
            _cost(given["max-cost"]) if given["max-cost"] else None,
            BOOLS[given["hedge"]] if given["hedge"] else None, BOOLS[given["cache"]] if given["cache"] else None,
        )  # fmt: skip
    except (ValueError, KeyError) as error:
        raise InvalidArgumentsError(f"A header {PREFIX}… has a value that cannot be: {error}.", "see docs/llm.md.") from None


def _cost(text: str) -> float:
    """Raises ValueError, also for what is no amount: nothing is dearer than NaN."""
    found = float(text)
    if not 0 <= found < float("inf"):
        raise ValueError(f"{text} is no amount")
    return found


def status_of(error: ApplianceError) -> int:
    """HTTP status of an error."""
    if isinstance(error, LlmError):
        return error.status
    kinds: tuple[tuple[type[ApplianceError], int], ...] = (
        (AuthError, 401), (NotAuthorizedError, 403), (InvalidArgumentsError, 400), (NotFoundError, 404),
        (AbsentError, 503), (NotRunningError, 503),
    )  # fmt: skip
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)


def reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def field(body: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    """A field of a request, of the type that it must have. Raises InvalidArgumentsError."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise InvalidArgumentsError(f"{name} is {type(value).__name__}, not {kind.__name__}.", f"mend {name}.")
    return value


ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
NUMBERS = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "num_predict", "num_ctx")
"""Options that are numbers, by Ollama's names."""


def checked(wanted: Wanted) -> Wanted:
    """The same request, if any model could answer it; else nobody is asked, and nothing is spent.

    Raises:
        InvalidArgumentsError: It names the field.
    """
    for number, each in enumerate(wanted.messages):
        if each.role not in ROLES:
            known = ", ".join(sorted(ROLES))
            raise InvalidArgumentsError(f"messages[{number}].role is {each.role!r}.", f"roles are {known}.")
    for name in NUMBERS:
        value = wanted.options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidArgumentsError(f"{name} is {type(value).__name__}, not a number.", f"mend {name}.")
    return wanted


def llm_routes(service: LlmService, actor_of: ActorOf, allow: Allow | None = None) -> list[BaseRoute]:
    """Both doors.

    Args:
        service: The gateway.
        actor_of: Tells who sends a request.
        allow: Raises NotAuthorizedError where a token's scopes do not reach an action.
    """
    from appliance.api.llm_ollama import OllamaDoor
    from appliance.api.llm_openai import OpenAiDoor

    return [*OllamaDoor(service, actor_of, allow).routes(), *OpenAiDoor(service, actor_of, allow).routes()]
