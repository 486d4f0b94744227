"""A whole appliance whose models are scriptable servers, and consoles on it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from appliance.core.model import Actor, Role
from tests.llm.upstreams import FakeOllama, up
from tests.screens import conftest as screens
from tests.screens.conftest import Bench
from tests.support import wait_for

ADA = Actor("ada", Role.admin, "console")


class Talker(FakeOllama):
    """A model that wants tools, one after the other, and says other words each time.

    Attributes:
        wants: (tool, arguments) of the next answers.
        says: Words of the next answers.
    """

    def __init__(self, models: dict[str, dict[str, Any]] | None = None) -> None:
        super().__init__(models)
        self.wants: deque[tuple[str, dict[str, Any]] | None] = deque()
        self.says: deque[tuple[str, ...]] = deque()
        self.usual = self.words

    async def answer(self, request: Request) -> Response:
        self.tool = self.wants.popleft() if self.wants else None
        self.words = self.says.popleft() if self.says else self.usual
        return await super().answer(request)

    def sent(self, number: int = -1) -> list[dict[str, Any]]:
        """The messages of a request."""
        return list(self.asked[number][1]["messages"])

    def system(self, number: int = -1) -> str:
        return str(self.sent(number)[0]["content"])


def running(home: Path, settings: dict[str, Any]) -> AbstractAsyncContextManager[Bench]:
    """A running appliance that was set up, with settings of the assistant."""
    return screens.running(home, "\n".join(["[assistant]", *(f"{key} = {json.dumps(settings[key])}" for key in settings), ""]))


Upstreams = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def appliance(home: Path, monkeypatch: pytest.MonkeyPatch) -> Upstreams:
    """Runs an appliance with these models."""

    @asynccontextmanager
    async def run(edge: Talker | None = None, cloud: Talker | None = None, **settings: Any) -> AsyncIterator[Bench]:
        there = [each for each in (edge, cloud) if each is not None]
        async with up(*there):
            if edge is not None:
                monkeypatch.setenv("OLLAMA_EDGE_URL", edge.url)
            if cloud is not None:
                monkeypatch.setenv("OLLAMA_CLOUD_URL", cloud.url)
            async with running(home, settings) as bench:
                if there:
                    gateway = bench.appliance.domains.llm.gateway  # type: ignore[union-attr]
                    await wait_for(lambda: all(each.models is not None for each in gateway.gauges.values()))
                yield bench

    return run


async def ask(bench: Bench, text: str, actor: Actor = ADA, **given: Any) -> Any:
    return await bench.appliance.dispatcher.invoke("assistant.ask", {"text": text, **given}, actor)


async def do(bench: Bench, verb: str, actor: Actor = ADA, **given: Any) -> Any:
    return await bench.appliance.dispatcher.invoke(f"assistant.{verb}", given, actor, confirm=True)
