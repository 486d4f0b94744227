"""Serves the rows of the table (api.table): arguments from path, query and body; an action or the state; a shape."""

from __future__ import annotations

import asyncio
from typing import Any, get_origin

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from appliance.api.app import RestApi, paged
from appliance.api.bodies import read_json
from appliance.api.gone import unless_gone
from appliance.api.pictures import brings_one, picture_of
from appliance.api.problems import reply
from appliance.api.table import ROWS, Row
from appliance.core.inference.uploads import Uploads
from appliance.errors import InvalidArgumentsError

CONFIRM = "confirm"
PAGING = frozenset({"limit", "cursor"})


def routes(api: RestApi, uploads: Uploads | None = None) -> list[BaseRoute]:
    """All rows as routes.

    Args:
        api: Carries actions out.
        uploads: Where pictures are held that requests bring.
    """
    held = uploads or Uploads()
    return [Route(row.path, _Endpoint(api, row, held).answer, methods=[row.method], name=row.summary) for row in ROWS]


class _Endpoint:
    """One row."""

    def __init__(self, api: RestApi, row: Row, uploads: Uploads) -> None:
        self._api, self._row, self._uploads = api, row, uploads

    async def answer(self, request: Request) -> Response:
        """See the row."""
        row = self._row
        if not row.action:
            self._api.allow(request, "state")
            values = [self._api.state.get(section).value for section in row.sections]
            return reply(row.shape(*values), row.status)
        if row.upload and (not row.body or brings_one(request)):
            return await self._picture(request)
        given = await self._given(request)
        confirm = given.pop(CONFIRM, False) is True
        result = await self._act(request, row.action, row.arguments(given), confirm=confirm)
        if row.pages:
            return paged(request, result or ())
        return reply({"ok": True} if result is None else row.shape(result), row.status)

    async def _picture(self, request: Request) -> Response:
        """A picture that the request brings; the action's arguments stand in the query, or are fields of the form."""
        picture = await picture_of(request)
        query = self._from_query(request, self._row.upload)
        with self._uploads.hold(picture.data) as ticket:
            given = {**query, **picture.fields, "ticket": ticket, "name": picture.name}
            return reply(await self._act(request, self._row.upload, given))

    async def _act(self, request: Request, name: str, given: dict[str, Any], *, confirm: bool = False) -> Any:
        """Carry the action out; one that only reads and takes long is given up where the client goes."""
        work = self._api.act(request, name, given, confirm=confirm)
        if self._row.waits and self._api.dispatcher.registry.get(name).query:
            return await unless_gone(request, asyncio.ensure_future(work))
        return await work

    async def _given(self, request: Request) -> dict[str, Any]:
        """Arguments: the path's go before those of the query and the body. Raises InvalidArgumentsError."""
        given: dict[str, Any] = {}
        if request.method in {"GET", "DELETE"}:
            given = self._from_query(request, self._row.action)
        elif body := await request.body():
            found = read_json(body)
            if not isinstance(found, dict):
                raise InvalidArgumentsError("The body is no JSON object.", "send one as /openapi.json describes it.")
            given = found
        clash = set(given) & set(request.path_params)
        if clash:
            raise InvalidArgumentsError(f"{', '.join(sorted(clash))} stands in the address already.", "give it once.")
        return {**given, **request.path_params}

    def _from_query(self, request: Request, action: str) -> dict[str, Any]:
        """A repeated name is a list; single texts go to the action as they are, whose model reads them."""
        fields = self._api.dispatcher.registry.get(action).params.model_fields
        found: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            found.setdefault(name, []).append(value)
        given: dict[str, Any] = {}
        for name, values in found.items():
            if self._row.pages and name in PAGING and name not in fields:
                continue
            listed = name in fields and get_origin(fields[name].annotation) in {list, tuple}
            if len(values) > 1 and not listed:
                raise InvalidArgumentsError(f"{name} was given {len(values)} times.", "give it once.")
            given[name] = values if listed else values[0]
        if given.get(CONFIRM) == "true":
            given[CONFIRM] = True
        return given
