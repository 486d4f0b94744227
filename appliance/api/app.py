"""The REST application: list, describe and invoke actions, read state and jobs, follow events.

The same code serves the UNIX socket and, behind authentication (api.gate), a TCP port.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from appliance import __version__
from appliance.api import problems
from appliance.api.bodies import read_json
from appliance.api.openapi import document
from appliance.api.problems import STATUS_CODES, reply
from appliance.api.routing import Table
from appliance.api.streams import EventStreams
from appliance.core import metrics
from appliance.core.access.model import Identity
from appliance.core.actions import ActionInfo
from appliance.core.bus import Bus
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Health, Phase, ServiceStatus
from appliance.core.state import LiveState, Section
from appliance.errors import ApplianceError, InvalidArgumentsError, NotAuthorizedError, NotFoundError

__all__ = ["STATUS_CODES", "Invoke", "RestApi", "Verdict", "reply", "verdict_on"]

PAGE, LARGEST_PAGE = 100, 1000
"""Rows of a page, where the request asks for pages."""


class Verdict(StrEnum):
    """How the appliance is, the worst first."""

    unhealthy = "unhealthy"
    starting = "starting"
    degraded = "degraded"
    healthy = "healthy"


class Invoke(msgspec.Struct, forbid_unknown_fields=True):
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
        streams: The event streams; made where not given.
        brief: /health tells the verdict alone, because anybody may ask.
    """

    def __init__(
        self, dispatcher: Dispatcher, state: LiveState, bus: Bus, device_id: str, actor_of: Callable[[Request], Actor],
        streams: EventStreams | None = None, *, brief: bool = False,
    ) -> None:  # fmt: skip
        self.dispatcher = dispatcher
        self.state = state
        self.actor_of = actor_of
        self._streams = streams or EventStreams(bus, device_id)
        self._brief = brief
        self._infos: dict[str, ActionInfo] = {}
        self._written: dict[Section, tuple[int, msgspec.Raw]] = {}
        self._document = b""

    def routes(self) -> list[BaseRoute]:
        """All that every front has."""
        return [
            Route("/health", self.health),
            Route("/api/health/detailed", self.detailed),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            Route("/api/v1/openapi.json", self.openapi),
            Route("/api/v1/actions", self.actions),
            Route("/api/v1/actions/{name}", self.describe, methods=["GET"]),
            Route("/api/v1/actions/{name}", self.invoke, methods=["POST"]),
            Route("/api/v1/state", self.all_state),
            Route("/api/v1/state/{section}", self.one_state),
            Route("/api/v1/jobs", self.jobs),
            Route("/api/v1/jobs/{job_id}", self.job, methods=["GET"]),
            Route("/api/v1/jobs/{job_id}", self.cancel_job, methods=["DELETE"]),
            Route("/api/v1/events", self.events),
        ]

    def asgi(self, further: Iterable[BaseRoute] = ()) -> Starlette:
        """The application."""
        handlers = {
            ApplianceError: problems.on_error, msgspec.DecodeError: problems.on_bad_body,
            HTTPException: problems.on_no_route, ClientDisconnect: problems.on_gone, Exception: problems.on_fault,
        }  # fmt: skip
        app = Starlette(routes=[*self.routes(), *further], exception_handlers=handlers)
        app.router = Table(app.router)
        return app

    def allow(self, request: Request, what: str) -> None:
        """Let it pass where the scopes of whoever asks reach it. Raises NotAuthorizedError."""
        identity = request.scope.get("identity")
        if isinstance(identity, Identity) and not identity.reaches(what):
            scopes = " ".join(identity.scopes)
            raise NotAuthorizedError(f"The scopes of this token ({scopes}) do not reach {what}.", "take another token.")

    async def act(self, request: Request, name: str, args: dict[str, Any], *, confirm: bool = False) -> Any:
        """Carry an action out for whoever asks. Raises ApplianceError."""
        actor = self.actor_of(request)
        try:
            self.allow(request, name)
        except NotAuthorizedError as error:
            await self.dispatcher.refuse(name, actor, error.message)
            raise
        return await self.dispatcher.invoke(name, args, actor, confirm=confirm)

    async def health(self, _: Request) -> Response:
        """Whether the appliance is well: 200, or 503 where a service is unhealthy or not yet tried."""
        worst, told = self._verdict()
        body = {"status": worst.value} if self._brief else {"status": worst.value, **told, "version": __version__}
        return reply(body, 503 if worst in {Verdict.unhealthy, Verdict.starting} else 200)

    async def detailed(self, request: Request) -> Response:
        """Every service with its reason and the next step; always 200, for the answer is what was asked for."""
        self.allow(request, "state")
        worst, told = self._verdict()
        services = self.state.get(Section.services).value or ()
        return reply({"status": worst.value, **told, "version": __version__, "services": services})

    def _verdict(self) -> tuple[Verdict, dict[str, dict[str, str]]]:
        statuses: tuple[ServiceStatus, ...] = self.state.get(Section.services).value or ()
        reasons: dict[str, dict[str, str]] = {verdict.value: {} for verdict in Verdict}
        for status in statuses:
            reasons[verdict_on(status).value][status.name] = status.reason
        worst = next((verdict for verdict in Verdict if reasons[verdict.value]), Verdict.starting)
        return worst, {name: found for name, found in reasons.items() if name != Verdict.healthy.value}

    async def metrics(self, request: Request) -> Response:
        """The numbers, for Prometheus."""
        self.allow(request, "metrics")
        found = metrics.gathered(self.state, self.dispatcher.observer.meter)
        body, kind = await asyncio.to_thread(found.written, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": kind})

    async def openapi(self, request: Request) -> Response:
        """The description of this API."""
        if not self._document:  # the registry and the routes do not change any more
            self._document = await asyncio.to_thread(self._write_document, request.scope["app"].routes)
        return Response(self._document, media_type="application/json")

    def _write_document(self, routes: list[BaseRoute]) -> bytes:
        return msgspec.json.encode(document(self.dispatcher.registry, routes), enc_hook=str)

    async def actions(self, request: Request) -> Response:
        """Every action."""
        if len(self._infos) != len(self.dispatcher.registry):
            self._infos = await asyncio.to_thread(self._describe_all)
        return paged(request, self._infos.values())

    def _describe_all(self) -> dict[str, ActionInfo]:
        """Some hundred schemas; a thread's work, and done once."""
        return {action.name: action.describe() for action in self.dispatcher.registry}

    async def describe(self, request: Request) -> Response:
        """One action."""
        return reply(self.dispatcher.registry.get(request.path_params["name"]).describe())

    async def invoke(self, request: Request) -> Response:
        """Carry an action out."""
        body = await request.body()
        call = read_json(body, Invoke) if body else Invoke()
        return reply({"result": await self.act(request, request.path_params["name"], call.args, confirm=call.confirm)})

    async def all_state(self, request: Request) -> Response:
        """All sections, each with its age."""
        self.allow(request, "state")
        return reply({section.value: self.section(section) for section in Section})

    async def one_state(self, request: Request) -> Response:
        """One section."""
        self.allow(request, "state")
        name = request.path_params["section"]
        if name not in {section.value for section in Section}:
            raise NotFoundError(f"There is no section {name!r}.", f"the sections are: {', '.join(Section)}.")
        return reply(self.section(Section(name)))

    def section(self, section: Section) -> dict[str, Any]:
        """One section with its version and age."""
        snapshot = self.state.get(section)
        before = self._written.get(section)
        if before is None or before[0] != snapshot.version:  # its value is the same for as long as its version is
            before = snapshot.version, msgspec.Raw(msgspec.json.encode(snapshot.value, enc_hook=str))
            self._written[section] = before
        return {"version": snapshot.version, "age": self.state.age(section), "value": before[1]}

    async def jobs(self, request: Request) -> Response:
        """Jobs, the newest first."""
        return paged(request, await self.act(request, "job.list", {}))

    async def job(self, request: Request) -> Response:
        """One job."""
        return reply(await self.act(request, "job.show", {"job_id": request.path_params["job_id"]}))

    async def cancel_job(self, request: Request) -> Response:
        """Have a job end."""
        return reply(await self.act(request, "job.cancel", {"job_id": request.path_params["job_id"]}))

    async def events(self, request: Request) -> Response:
        """Events as they happen (server-sent events)."""
        self.allow(request, "events")
        if request.method == "HEAD":  # what has no body has an end
            return Response(media_type="text/event-stream")
        return self._streams.response(request)


def paged(request: Request, rows: Iterable[Any]) -> Response:
    """Rows, or a page of them where the request has `limit` or `cursor`: the next page is linked (RFC 8288).

    Raises:
        InvalidArgumentsError: One of the two cannot be.
    """
    found = list(rows)
    query = request.query_params
    if "limit" not in query and "cursor" not in query:
        return reply(found)
    begin, most = _cursor(query.get("cursor", "")), _limit(query.get("limit", str(PAGE)))
    headers = {"X-Total-Count": str(len(found))}
    if begin + most < len(found):
        cursor = base64.urlsafe_b64encode(str(begin + most).encode()).decode().rstrip("=")
        headers["Link"] = f'<{request.url.path}?limit={most}&cursor={cursor}>; rel="next"'
    return reply(found[begin : begin + most], headers=headers)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= LARGEST_PAGE):
        raise InvalidArgumentsError("limit is no number of rows.", f"give 1 to {LARGEST_PAGE}.")
    return int(text)


def _cursor(text: str) -> int:
    try:
        return max(0, int(base64.urlsafe_b64decode(text[:24] + "=" * (-len(text[:24]) % 4)))) if text else 0
    except ValueError:
        raise InvalidArgumentsError("cursor is none of ours.", "take it from the Link header of the page before.") from None


def verdict_on(status: ServiceStatus) -> Verdict:
    """How one service counts; what is absent is well, as far as it goes."""
    if status.health is Health.unhealthy:
        return Verdict.unhealthy
    if status.phase in {Phase.starting, Phase.waiting}:
        return Verdict.starting
    return Verdict.degraded if status.health is Health.degraded else Verdict.healthy
