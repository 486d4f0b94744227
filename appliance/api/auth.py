"""Logging in over HTTP, and what belongs to it: renewal, the end, whoever asks, and their sessions."""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from appliance.api.app import paged
from appliance.api.bodies import read_json
from appliance.api.problems import RequestError, reply
from appliance.core.access.desk import AccessDesk
from appliance.core.access.model import Identity
from appliance.errors import AuthError, NotAuthorizedError, NotFoundError

T = TypeVar("T")
FORM = "application/x-www-form-urlencoded"


class Login(msgspec.Struct):
    """Who wants to come in."""

    username: str
    password: str
    code: str = ""


class Refresh(msgspec.Struct):
    """What renews a session."""

    refresh_token: str


class AuthRoutes:
    """The routes.

    Args:
        desk: Who may come in.
    """

    def __init__(self, desk: AccessDesk) -> None:
        self._desk = desk

    def routes(self) -> list[BaseRoute]:
        """All."""
        return [
            Route("/api/auth/login", self.login, methods=["POST"]),
            Route("/api/auth/refresh", self.refresh, methods=["POST"]),
            Route("/api/auth/logout", self.logout, methods=["POST"]),
            Route("/api/auth/me", self.me),
            Route("/api/auth/sessions", self.sessions),
            Route("/api/auth/sessions/{session_id}", self.end_session, methods=["DELETE"]),
        ]

    async def login(self, request: Request) -> Response:
        """Log in with name, password and, where there is a second factor, its code."""
        wish = await _read(request, Login)
        address = request.client.host if request.client is not None else "unknown"
        pair = await self._desk.login(
            wish.username, wish.password, wish.code.strip()[:64], address, request.headers.get("user-agent", "")
        )
        return reply(pair)

    async def refresh(self, request: Request) -> Response:
        """The next pair of tokens; each refresh token works once."""
        wish = await _read(request, Refresh)
        address = request.client.host if request.client is not None else "unknown"
        return reply(await self._desk.renew(wish.refresh_token, address))

    async def logout(self, request: Request) -> Response:
        """End this session."""
        identity = who(request)
        if not identity.session_id:
            raise AuthError("A token of a program has no session.", "revoke it: `prime-spark api token revoke`.")
        await self._desk.end_own(identity, identity.session_id)
        return reply({"ok": True})

    async def me(self, request: Request) -> Response:
        """Who asks, as what, and how far it reaches."""
        identity = who(request)
        actor = identity.actor
        return reply({
            "username": actor.name, "role": actor.role.name, "scopes": identity.scopes, "via": actor.via,
            "origin": actor.origin, "session_id": identity.session_id or None,
            "second_factor": await self._desk.factors.wanted(actor.name),
        })  # fmt: skip

    async def sessions(self, request: Request) -> Response:
        """One's own sessions."""
        identity = _reaching(request, "api.session-list")
        mine = [each for each in self._desk.all_sessions() if each.user == identity.actor.name]
        return paged(request, [{**msgspec.to_builtins(each), "this": each.session_id == identity.session_id} for each in mine])

    async def end_session(self, request: Request) -> Response:
        """End one of one's own sessions."""
        identity, wanted = _reaching(request, "api.session-revoke"), request.path_params["session_id"]
        mine = {each.session_id for each in self._desk.all_sessions() if each.user == identity.actor.name}
        if wanted not in mine:
            raise NotFoundError("You have no such session.", "list them: GET /api/auth/sessions.")
        await self._desk.end_own(identity, wanted)
        return reply({"ok": True})


def who(request: Request) -> Identity:
    """Who asks, as the gate found. Raises AuthError."""
    identity = request.scope.get("identity")
    if not isinstance(identity, Identity):
        raise AuthError("This needs a token.", "log in: POST /api/auth/login.")
    return identity


def _reaching(request: Request, action: str) -> Identity:
    """Who asks, where their scopes reach as far as that action. Raises AuthError, NotAuthorizedError."""
    identity = who(request)
    if not identity.reaches(action):
        scopes = " ".join(identity.scopes)
        raise NotAuthorizedError(f"The scopes of this token ({scopes}) do not reach {action}.", "take another token.")
    return identity


async def _read(request: Request, kind: type[T]) -> T:
    """The body, as JSON or as a form. Raises RequestError, msgspec.DecodeError."""
    body = await request.body()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        return read_json(body, kind)
    try:
        pairs: dict[str, Any] = dict(parse_qsl(body.decode(), max_num_fields=20))
        return msgspec.convert(pairs, kind)
    except (ValueError, UnicodeDecodeError) as error:
        raise RequestError("body", f"The form is wrong: {error}.", "send the fields that /openapi.json describes.") from error
