"""The appliance's own door to the language models that streams: POST /api/llm/generate/stream (contracts.md, section 6)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from appliance.api import projections as project
from appliance.api.app import RestApi
from appliance.api.llm import Door, Streamed
from appliance.core.catalog.llm import Generating
from appliance.core.dispatch import validate
from appliance.core.llm.faults import LlmError
from appliance.core.llm.service import LlmService

if TYPE_CHECKING:
    from appliance.core.llm.stream import Stream

GENERATE = "llm.generate"


class Talk:
    """The route.

    Args:
        api: Says who may.
        service: The gateway; it tells how to configure one where there is none.
    """

    def __init__(self, api: RestApi, service: LlmService) -> None:
        self._registry = api.dispatcher.registry
        self._door = Door(service, api.actor_of, api.allow, lambda error, status: {"error": error.message, "status": status})

    def routes(self) -> list[BaseRoute]:
        """It."""
        return [Route("/api/llm/generate/stream", self.stream, methods=["POST"])]

    async def stream(self, request: Request) -> Response:
        """Have a language model go on from a prompt, as server-sent events: pieces, then "done" with where and why."""
        who = self._door.who(request, GENERATE)
        params = validate(self._registry.get(GENERATE), await self._door.body(request))
        if not isinstance(params, Generating):
            raise TypeError(f"{GENERATE} takes {type(params).__name__}")
        opened = await self._door.open(request, params.request(), who)
        return Streamed(opened, _lines(opened), "text/event-stream")


async def _lines(stream: Stream) -> AsyncGenerator[bytes]:
    try:
        async with aclosing(stream.pieces()) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield b"data: " + msgspec.json.encode({"response": piece.text}) + b"\n\n"
    except LlmError as error:
        told = {"code": error.code, "message": error.message, "next_step": error.next_step}
        yield b"event: error\ndata: " + msgspec.json.encode({"error": told}) + b"\n\n"
        return
    if stream.answer is not None:
        done = {**project.answer(stream.answer), "response": ""}
        yield b"event: done\ndata: " + msgspec.json.encode(done) + b"\n\n"
