"""The REST application: list, describe and invoke actions, read state, follow events.

The same code serves the UNIX socket now and a TCP port behind authentication later: who asks is told by `actor_of`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from appliance import __version__
from appliance.api.openapi import document
from appliance.core import metrics
from appliance.core.bus import Bus
from appliance.core.dispatch import Dispatcher
from appliance.core.events import envelope
from appliance.core.model import Actor, Health, Phase, ServiceStatus
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, NotFoundError

log = logging.getLogger(__name__)

STATUS_CODES = {
    "config": 400, "invalid_arguments": 422, "unknown_action": 404, "not_found": 404, "not_authorized": 403, "auth": 401,
    "confirmation_required": 409, "conflict": 409, "precondition": 412, "timeout": 504, "absent": 503, "disk_full": 507,
    "image": 422, "tier_unavailable": 503, "tier_absent": 503, "tier_full": 507, "not_running": 503,
}  # fmt: skip
"""HTTP status by error code (RFC 9110); any other error is a 500."""


GONE = 499
"""Status of an answer to nobody, as nginx has it."""


class Verdict(StrEnum):
    """How the appliance is, the worst first."""

    unhealthy = "unhealthy"
    starting = "starting"
    degraded = "degraded"
    healthy = "healthy"


class Invoke(msgspec.Struct):
    """The body of an invocation."""

    args: dict[str, Any] = {}
    confirm: bool = False


class RestApi:
    """The routes, on what they need of the core.

    Args:
        dispatcher: Carries actions out.
        state: The live state.
        bus: Where the event stream comes from.
        device_id: For the envelopes of the event stream.
        actor_of: Tells who sends a request.
    """

    def __init__(
        self, dispatcher: Dispatcher, state: LiveState, bus: Bus, device_id: str, actor_of: Callable[[Request], Actor]
    ) -> None:
        self._dispatcher = dispatcher
        self._state = state
        self._bus = bus
        self._device_id = device_id
        self._actor_of = actor_of

    def asgi(self) -> Starlette:
        """The application."""
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/api/v1/openapi.json", self.openapi),
            Route("/api/v1/actions", self.actions),
            Route("/api/v1/actions/{name}", self.describe, methods=["GET"]),
            Route("/api/v1/actions/{name}", self.invoke, methods=["POST"]),
            Route("/api/v1/state", self.all_state),
            Route("/api/v1/state/{section}", self.one_state),
            Route("/api/v1/events", self.events),
        ]
        handlers = {
            ApplianceError: on_error, msgspec.DecodeError: on_bad_body, HTTPException: on_no_route,
            ClientDisconnect: on_gone, Exception: on_fault,
        }  # fmt: skip
        return Starlette(routes=routes, exception_handlers=handlers)

    async def health(self, _: Request) -> Response:
        """Whether the appliance is well: 200, or 503 where a service is unhealthy or not yet tried."""
        statuses: tuple[ServiceStatus, ...] = self._state.get(Section.services).value or ()
        reasons: dict[str, dict[str, str]] = {verdict.value: {} for verdict in Verdict}
        for status in statuses:
            reasons[verdict_on(status).value][status.name] = status.reason
        worst = next((verdict for verdict in Verdict if reasons[verdict.value]), Verdict.starting)
        told = {name: found for name, found in reasons.items() if name != Verdict.healthy.value}
        body = {"status": worst.value, **told, "version": __version__}
        return reply(body, 503 if worst in {Verdict.unhealthy, Verdict.starting} else 200)

    async def metrics(self, _: Request) -> Response:
        """The numbers, for Prometheus."""
        return Response(metrics.text(self._state), media_type=metrics.CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """The description of this API."""
        return reply(document(self._dispatcher.registry))

    async def actions(self, _: Request) -> Response:
        """Every action."""
        return reply([action.describe() for action in self._dispatcher.registry])

    async def describe(self, request: Request) -> Response:
        """One action."""
        return reply(self._dispatcher.registry.get(request.path_params["name"]).describe())

    async def invoke(self, request: Request) -> Response:
        """Carry an action out."""
        body = await request.body()
        call = msgspec.json.decode(body, type=Invoke) if body else Invoke()
        actor = self._actor_of(request)
        result = await self._dispatcher.invoke(request.path_params["name"], call.args, actor, confirm=call.confirm)
        return reply({"result": result})

    async def all_state(self, _: Request) -> Response:
        """All sections, each with its age."""
        return reply({section.value: self._section(section) for section in Section})

    async def one_state(self, request: Request) -> Response:
        """One section."""
        name = request.path_params["section"]
        if name not in {section.value for section in Section}:
            raise NotFoundError(f"There is no section {name!r}.", f"the sections are: {', '.join(Section)}.")
        return reply(self._section(Section(name)))

    def _section(self, section: Section) -> dict[str, Any]:
        snapshot = self._state.get(section)
        return {"version": snapshot.version, "age": self._state.age(section), "value": snapshot.value}

    async def events(self, request: Request) -> Response:
        """Events as they happen (server-sent events, WHATWG HTML section 9.2)."""
        return StreamingResponse(self._stream(request), media_type="text/event-stream")

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        queue = self._bus.subscribe(f"stream {id(request):x}", capacity=1000)
        try:
            yield b": connected\n\n"
            async for event in queue:
                data = msgspec.json.encode(envelope(event, self._device_id))
                yield b"id: " + event.id.encode() + b"\nevent: " + event.topic.encode() + b"\ndata: " + data + b"\n\n"
        finally:
            queue.close()


def verdict_on(status: ServiceStatus) -> Verdict:
    """How one service counts; what is absent is well, as far as it goes."""
    if status.health is Health.unhealthy:
        return Verdict.unhealthy
    if status.phase in {Phase.starting, Phase.waiting}:
        return Verdict.starting
    return Verdict.degraded if status.health is Health.degraded else Verdict.healthy


def reply(body: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(msgspec.json.encode(body, enc_hook=str), status, media_type="application/json")


async def on_error(_: Request, error: Exception) -> Response:
    """One of our errors as JSON: {error: {code, message, next_step}}."""
    if not isinstance(error, ApplianceError):
        raise error
    body = {"error": {"code": error.code, "message": error.message, "next_step": error.next_step}}
    return reply(body, STATUS_CODES.get(error.code, 500))


async def on_no_route(_: Request, error: Exception) -> Response:
    """An address or a method that there is not."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    body = {"code": "not_found", "message": f"There is nothing here ({status}).", "next_step": "see /api/v1/openapi.json."}
    return reply({"error": body}, status)


async def on_gone(request: Request, _: Exception) -> Response:
    """Whoever asked went away before the whole request was here: nothing was done, and nobody reads the answer."""
    log.debug("%s %s was not sent whole", request.method, request.url.path)
    return Response(status_code=GONE)


async def on_fault(request: Request, error: Exception) -> Response:
    """A fault of ours: told, and logged with where it was."""
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    body = {"code": "error", "message": f"{type(error).__name__}: {error}", "next_step": "see the log for where."}
    return reply({"error": body}, 500)


async def on_bad_body(_: Request, error: Exception) -> Response:
    """A body that is not the JSON it should be."""
    hint = 'send {"args": {…}, "confirm": false}.'
    return reply({"error": {"code": "invalid_arguments", "message": f"The body is wrong: {error}.", "next_step": hint}}, 400)
