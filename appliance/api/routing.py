"""Finds a route by its whole path first: most addresses have nothing to be matched, and there are a hundred of them."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send


class Table(Router):
    """A router that looks plain paths up, and matches only what has parameters.

    An address that takes other methods says all of them (RFC 9110, section 15.5.6), whichever route each belongs to.

    Args:
        before: Whose routes it takes over; more may be added to `routes` before the first request.
    """

    def __init__(self, before: Router) -> None:
        super().__init__(before.routes, redirect_slashes=False)  # such a redirect goes wherever the Host header says
        self._plain: dict[str, dict[str, Route]] = {}
        self._matched: list[Route] = []
        self._count = -1

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises HTTPException."""
        if scope["type"] != "http":
            await super().app(scope, receive, send)
            return
        if self._count != len(self.routes):
            self._learn(self.routes)
        route, more, methods = self._find(scope)
        if route is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(methods))}) if methods else HTTPException(404)
        scope.setdefault("router", self)
        scope["route"] = route  # requests are counted by it, and never by what the caller wrote
        scope.update(more)
        await route.handle(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Route | None, Scope, set[str]]:
        """The route, what it adds to the scope, and the methods of this address."""
        by_method = self._plain.get(scope["path"], {})
        route = by_method.get(scope["method"])
        if route is not None:
            return route, {"path_params": {}, "endpoint": route.endpoint}, set()
        methods = set(by_method)
        for each in self._matched:
            match, more = each.matches(scope)
            if match is Match.FULL:
                return each, more, methods
            if match is Match.PARTIAL:
                methods |= each.methods or set()
        return None, {}, methods

    def _learn(self, routes: list[BaseRoute]) -> None:
        self._count, self._plain, self._matched = len(routes), {}, []
        for route in (each for each in routes if isinstance(each, Route)):
            if route.param_convertors:
                self._matched.append(route)
                continue
            for method in route.methods or ():
                self._plain.setdefault(route.path, {}).setdefault(method, route)
