"""A gateway on scriptable upstreams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from appliance.core.clock import SystemClock
from appliance.core.llm.gateway import Gateway
from appliance.core.llm.model import Answer, Message, Operation, Request, Wishes
from appliance.core.llm.service import Ground, LlmService
from appliance.core.llm.stream import whole
from appliance.core.power.model import Phase, PowerStatus, Setting
from appliance.core.secrets import Secrets
from appliance.core.state import LiveState, Section
from appliance.core.store import Store
from appliance.settingllm import LlmSettings
from tests.llm.upstreams import FakeOllama, FakeOpenAi
from tests.support import wait_for


class Shelf:
    """A memory that keeps values in this process (cache.Keeper)."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    async def get(self, key: str, namespace: str, default: Any = None) -> Any:
        return self.kept.get(f"{namespace}:{key}", default)

    async def set(self, key: str, value: Any, *, namespace: str, ttl: float | None, durability: Any) -> None:
        self.kept[f"{namespace}:{key}"] = value


class Rig(SimpleNamespace):
    """A running service with what it stands on."""

    service: LlmService
    state: LiveState
    shelf: Shelf

    @property
    def gateway(self) -> Gateway:
        return self.service.gateway

    async def ask(self, text: str = "Why?", **given: Any) -> Answer:
        return await whole(await self.gateway.open(chat(text, **given), "tester"))

    def power(self, routing: str | None) -> None:
        status = PowerStatus(Setting.auto, Phase.battery, 0.0, "a test", routing=routing)
        self.state.put(Section.power, status)


def chat(text: str = "Why?", *, wishes: Wishes | None = None, **given: Any) -> Request:
    return Request(operation=Operation.chat, messages=(Message("user", text),), wishes=wishes or Wishes(), **given)


def endpoint(fake: FakeOllama | FakeOpenAi, place: str, **given: Any) -> dict[str, Any]:
    kind = "ollama" if isinstance(fake, FakeOllama) else "openai"
    return {"url": fake.url, "kind": kind, "place": place, **given}


@asynccontextmanager
async def running(
    directory: Path, endpoints: dict[str, dict[str, Any]], *, clock: Any = None, probed: bool = True, **settings: Any
) -> AsyncIterator[Rig]:
    """The service, probed once."""
    directory.mkdir(parents=True, exist_ok=True)
    clock = clock or SystemClock()
    wanted = LlmSettings.model_validate({"endpoints": endpoints, **settings})
    store, state, shelf = Store(directory / "state.db"), LiveState(clock), Shelf()
    store.open()
    secrets = Secrets(directory / "secrets", {})
    service = LlmService(Ground(wanted, store, secrets, state, clock, lambda: shelf))
    try:
        await service.start()
        if probed:
            await service.gateway.probe()
        yield Rig(service=service, state=state, store=store, shelf=shelf, secrets=secrets)
    finally:
        await service.stop()
        store.close()


async def settled(rig: Rig) -> None:
    """All entries of the ledger have their end."""

    async def done() -> bool:
        return all(each.outcome != "sent" for each in await rig.gateway.ledger.entries(1000))

    await wait_for(done)
