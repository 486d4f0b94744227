"""Finds a route by its address first, then by its method: there are a hundred of them, and most have nothing to be matched."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send


class Table(Router):
    """A router that looks plain addresses up, and matches only those that have parameters, in their order.

    As OpenAPI has it (3.1, "Paths Object"), a plain address goes before one with parameters, whatever its methods: one that
    takes other methods says all of them (RFC 9110, section 15.5.6).

    Args:
        before: Whose routes it takes over; more may be added to `routes` before the first request.
    """

    def __init__(self, before: Router) -> None:
        super().__init__(before.routes, redirect_slashes=False)  # such a redirect goes wherever the Host header says
        self._plain: dict[str, dict[str, Route]] = {}
        self._matched: dict[str, list[Route]] = {}
        self._count = -1

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises HTTPException."""
        if scope["type"] != "http":
            await super().app(scope, receive, send)
            return
        if self._count != len(self.routes):
            self._learn(self.routes)
        route, more = self._find(scope)
        scope.setdefault("router", self)
        scope["route"] = route  # requests are counted by it, and never by what the caller wrote
        scope.update(more)
        await route.handle(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[Route, Scope]:
        """The route, and what it adds to the scope. Raises HTTPException."""
        by_method = self._plain.get(scope["path"])
        if by_method is not None:
            route = by_method.get(scope["method"])
            if route is None:
                raise _other(by_method)
            return route, {"path_params": {}, "endpoint": route.endpoint}
        for routes in self._matched.values():
            matches = [each.matches(scope) for each in routes]
            if matches[0][0] is Match.NONE:  # they have the same address
                continue
            for each, (match, more) in zip(routes, matches, strict=True):
                if match is Match.FULL:
                    return each, more
            raise _other({method for each in routes for method in each.methods or ()})
        raise HTTPException(404)

    def _learn(self, routes: list[BaseRoute]) -> None:
        self._count, self._plain, self._matched = len(routes), {}, {}
        for route in (each for each in routes if isinstance(each, Route)):
            if route.param_convertors:
                self._matched.setdefault(route.path, []).append(route)
                continue
            for method in route.methods or ():
                self._plain.setdefault(route.path, {}).setdefault(method, route)


def _other(methods: dict[str, Route] | set[str]) -> HTTPException:
    return HTTPException(405, headers={"Allow": ", ".join(sorted(methods))})
