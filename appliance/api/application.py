"""The whole application behind TCP: gate, compression, browsers of other origins, and every route."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from appliance.api import named
from appliance.api.app import RestApi
from appliance.api.auth import AuthRoutes, who
from appliance.api.docspage import DocsPage
from appliance.api.gate import Gate
from appliance.api.streams import EventStreams
from appliance.api.table import ROWS
from appliance.core.access.answers import Answers
from appliance.core.access.desk import AccessDesk
from appliance.core.access.limiter import Limiter
from appliance.core.access.sealing import Sealer
from appliance.core.bus import Bus
from appliance.core.dispatch import Dispatcher
from appliance.core.inference.uploads import Uploads
from appliance.core.model import Actor
from appliance.core.ports import Clock
from appliance.core.state import LiveState
from appliance.core.store import Store

ACTIONS = "/api/v1/actions/"
READING = frozenset({"/api/llm/generate/stream"})
"""Further addresses where a POST changes nothing."""
HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-ID")
SHOWN = ("X-Request-ID", "X-Total-Count", "Link", "Retry-After", "Idempotency-Replayed")


@dataclass(frozen=True)
class Bounds:
    """How much is let through; as the settings of the same names say.

    Attributes:
        reads: Requests a second that read, of one identity.
        changes: Those that change something.
        body: Largest body, bytes.
        streams: Event streams of one identity.
        origins: Web pages of other origins that may call.
        proxies: Addresses and networks whose X-Forwarded-For is believed.
    """

    reads: float
    changes: float
    body: int
    streams: int
    origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()


class Spine(Protocol):
    """What the routes stand on."""

    dispatcher: Dispatcher
    state: LiveState
    bus: Bus
    store: Store
    clock: Clock
    settings: Any


Further = Callable[[RestApi], Iterable[BaseRoute]]


def application(
    spine: Any, desk: AccessDesk, sealer: Sealer, bounds: Bounds, further: Iterable[Further] = (),
    uploads: Uploads | None = None,
) -> ASGIApp:  # fmt: skip
    """The application.

    Args:
        spine: See Spine.
        desk: Who may come in.
        sealer: Seals answers that are kept.
        bounds: How much is let through.
        further: What makes further routes.
        uploads: Where pictures are held that requests bring.
    """
    device = spine.settings.node.device_id
    streams = EventStreams(spine.bus, device, desk.holds, bounds.streams)
    api = RestApi(spine.dispatcher, spine.state, spine.bus, device, actor_of, streams, brief=True)
    routes: list[BaseRoute] = [
        *AuthRoutes(desk).routes(),
        *named.routes(api, uploads),
        Route("/docs", DocsPage().show),
        WebSocketRoute("/api/v1/ws", streams.socket),
    ]
    for make in further:
        routes += make(api)
    registry = spine.dispatcher.registry
    queries = frozenset(f"{ACTIONS}{action.name}" for action in registry if action.query) | READING
    queries |= {row.path for row in ROWS if row.action and registry.get(row.action).query}
    app: ASGIApp = Gate(
        api.asgi(routes), desk.identify, Answers(spine.store, sealer, spine.clock), Limiter(bounds.reads),
        Limiter(bounds.changes), queries.__contains__, bounds.body, desk.turned_away,
    )  # fmt: skip
    app = GZipMiddleware(app, minimum_size=1024, compresslevel=1)
    if bounds.origins:
        app = CORSMiddleware(
            app, allow_origins=bounds.origins, allow_methods=("GET", "POST", "PUT", "DELETE"), allow_headers=HEADERS,
            expose_headers=SHOWN, max_age=600,
        )  # fmt: skip
    if bounds.proxies:
        app = ProxyHeadersMiddleware(app, [*bounds.proxies, *mapped(bounds.proxies)])  # type: ignore[arg-type, assignment]
    return app


def mapped(proxies: Iterable[str]) -> list[str]:
    """IPv4 addresses and networks as a socket of both kinds shows them (RFC 4291, section 2.5.5.2)."""
    found = [ipaddress.ip_network(each) for each in proxies]
    return [f"::ffff:{each.network_address}/{96 + each.prefixlen}" for each in found if each.version == 4]


def actor_of(request: Request) -> Actor:
    """Whoever asks. Raises AuthError."""
    return who(request).actor
