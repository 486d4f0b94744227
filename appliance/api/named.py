"""Serves the rows of the table (api.table): arguments from path, query and body; an action or the state; a shape."""

from __future__ import annotations

from typing import Any, get_origin

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from appliance.api.app import RestApi
from appliance.api.problems import reply
from appliance.api.table import ROWS, Row
from appliance.errors import InvalidArgumentsError

CONFIRM = "confirm"


def routes(api: RestApi) -> list[BaseRoute]:
    """All rows as routes."""
    return [Route(row.path, _Endpoint(api, row).answer, methods=[row.method], name=row.summary) for row in ROWS]


class _Endpoint:
    """One row."""

    def __init__(self, api: RestApi, row: Row) -> None:
        self._api, self._row = api, row

    async def answer(self, request: Request) -> Response:
        """See the row."""
        row = self._row
        if not row.action:
            self._api.allow(request, "state")
            values = [self._api.state.get(section).value for section in row.sections]
            return reply(row.shape(*values), row.status)
        given = await self._given(request)
        confirm = given.pop(CONFIRM, False) is True
        result = await self._api.act(request, row.action, row.arguments(given), confirm=confirm)
        return reply({"ok": True} if result is None else row.shape(result), row.status)

    async def _given(self, request: Request) -> dict[str, Any]:
        """Arguments: the path's go before those of the query and the body. Raises InvalidArgumentsError."""
        given: dict[str, Any] = {}
        if request.method in {"GET", "DELETE"}:
            given = self._from_query(request)
        elif body := await request.body():
            found = msgspec.json.decode(body)
            if not isinstance(found, dict):
                raise InvalidArgumentsError("The body is no JSON object.", "send one as /openapi.json describes it.")
            given = found
        clash = set(given) & set(request.path_params)
        if clash:
            raise InvalidArgumentsError(f"{', '.join(sorted(clash))} stands in the address already.", "give it once.")
        return {**given, **request.path_params}

    def _from_query(self, request: Request) -> dict[str, Any]:
        """A repeated name is a list; single texts go to the action as they are, whose model reads them."""
        fields = self._api.dispatcher.registry.get(self._row.action).params.model_fields
        query = request.query_params
        given: dict[str, Any] = {}
        for name in dict.fromkeys(query):
            values = query.getlist(name)
            listed = name in fields and get_origin(fields[name].annotation) in {list, tuple}
            if len(values) > 1 and not listed:
                raise InvalidArgumentsError(f"{name} was given {len(values)} times.", "give it once.")
            given[name] = values if listed else values[0]
        if given.get(CONFIRM) == "true":
            given[CONFIRM] = True
        return given
