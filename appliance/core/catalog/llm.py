"""Actions on language models: ask them, see where requests go and why, take endpoints out of service."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.figures import counted
from appliance.core.llm.model import (
    Answer,
    Decision,
    EndpointStatus,
    LedgerEntry,
    Message,
    Operation,
    Place,
    Privacy,
    Request,
    Strategy,
    Wishes,
)
from appliance.core.llm.service import LlmService
from appliance.core.model import Role

LONG = 1800.0
"""Seconds that an answer may take."""
TEXT = 64 * 1024 * 1024
"""Characters of a text; llm.request_mib bounds the whole request."""


def _json(value: Any) -> Any:
    """Turns of a talk; on the command line they come as texts."""
    try:
        found = msgspec.json.decode(value) if isinstance(value, str) else value
        return [msgspec.json.decode(each) if isinstance(each, str) else each for each in found]
    except (msgspec.MsgspecError, TypeError) as error:
        raise PydanticCustomError("json", "this is no list of turns: {told}", {"told": str(error)}) from None


class Turn(Params):
    """One turn of a talk."""

    role: Literal["system", "user", "assistant"] = Field(description="Who says it")
    content: str = Field(max_length=TEXT, description="What")


class Way(Params):
    """What a request may ask of its way."""

    model: str = Field("", max_length=200, description="Model or alias; empty for the default one")
    edge_only: bool = Field(False, description="It must not leave the house")
    place: Literal["", "edge", "agent", "cloud"] = Field("", description="Only there")
    endpoint: str = Field("", max_length=63, description="Only that one")
    strategy: Literal["", "edge-first", "cloud-first", "balanced", "edge-only"] = Field(
        "", description="Instead of llm.strategy"
    )
    max_cost: float | None = Field(None, ge=0, description="Most that it may cost, in the currency of the prices")
    cache: bool | None = Field(None, description="Whether a kept answer will do; not given: where temperature is 0")
    temperature: float | None = Field(None, ge=0, le=10, description="How freely it chooses; 0: always the same")
    max_tokens: int | None = Field(None, ge=1, le=1_000_000, description="Longest answer")

    def wishes(self) -> Wishes:
        """For the policy."""
        return Wishes(
            Privacy.edge_only if self.edge_only else Privacy.any, Strategy(self.strategy) if self.strategy else None,
            Place(self.place) if self.place else None, self.endpoint, self.max_cost, None, self.cache,
        )  # fmt: skip

    def options(self) -> dict[str, Any]:
        """By Ollama's names."""
        given = {"temperature": self.temperature, "num_predict": self.max_tokens}
        return {name: value for name, value in given.items() if value is not None}


class Generating(Way):
    """A prompt."""

    prompt: str = Field(min_length=1, max_length=TEXT, description="The prompt")
    system: str = Field("", max_length=TEXT, description="What the model is told beforehand")

    def request(self) -> Request:
        """For the gateway."""
        return Request(
            operation=Operation.generate, model=self.model, prompt=self.prompt, system=self.system, options=self.options(),
            wishes=self.wishes(),
        )  # fmt: skip


class Chatting(Way):
    """A talk."""

    text: str = Field("", max_length=TEXT, description="What the user says last")
    messages: Annotated[tuple[Turn, ...], BeforeValidator(_json)] = Field(
        (), max_length=1000, description='Turns before it, each as JSON: {"role": "user", "content": "…"}'
    )
    system: str = Field("", max_length=TEXT, description="What the model is told beforehand")

    @model_validator(mode="after")
    def _says_something(self) -> Chatting:
        if not self.text.strip() and not self.messages:
            raise ValueError("the text is empty: write what the model is to answer")
        return self

    def request(self) -> Request:
        """For the gateway."""
        turns = [Message("system", self.system)] if self.system else []
        turns += [Message(each.role, each.content) for each in self.messages]
        turns += [Message("user", self.text)] if self.text else []
        return Request(
            operation=Operation.chat, model=self.model, messages=tuple(turns), options=self.options(), wishes=self.wishes()
        )


class Routing(Way):
    """A request that is not sent."""

    operation: Literal["chat", "generate", "embed"] = Field("chat", description="What would be asked")
    prompt: str = Field("", max_length=TEXT, description="Text that would be sent; its length matters")

    def request(self) -> Request:
        """For the gateway."""
        return Request(
            operation=Operation(self.operation), model=self.model, prompt=self.prompt, options=self.options(),
            wishes=self.wishes(),
        )  # fmt: skip


class Named(Params):
    """One endpoint."""

    name: str = Field(min_length=1, max_length=63, description="Name of the endpoint")


class Looked(Params):
    """One endpoint, or all."""

    name: str = Field("", max_length=63, description="Name of the endpoint; empty for all")


class Page(Params):
    """A part of the ledger."""

    limit: int = Field(50, ge=1, le=1000, description="Most rows")
    before: int | None = Field(None, ge=1, description="Only entries with a smaller number")


class ModelRow(msgspec.Struct, frozen=True):
    """A model of an endpoint, or an alias."""

    name: str
    endpoint: str
    place: str
    size: int | None = None
    context: int | None = None
    parameters: str = ""
    capabilities: tuple[str, ...] | None = None
    loaded: bool | None = None
    stands_for: str = ""


def llm_actions(service: LlmService) -> list[Action]:
    """All of the language models.

    Args:
        service: Their gateway.
    """
    return [*_asking(service), *_looking(service), *_switching(service)]


def _asking(service: LlmService) -> list[Action]:
    async def generate(call: Invocation, params: Generating) -> Answer:
        return await _whole(service, params.request(), call)

    async def chat(call: Invocation, params: Chatting) -> Answer:
        return await _whole(service, params.request(), call)

    # no audit rows: prompts are nobody's business; what leaves the house is in the ledger, with who sent it
    asking = functools.partial(Action, query=True, role=Role.operator, timeout=LONG, brief=lambda answer: answer.text[:200])
    return [
        asking("llm.generate", "Have a model go on from a prompt", generate, Generating, positional=("prompt",)),
        asking("llm.chat", "Talk with a model", chat, Chatting, positional=("text",)),
    ]


async def _whole(service: LlmService, request: Request, call: Invocation) -> Answer:
    from appliance.core.llm.stream import whole

    return await whole(await service.gateway.open(request, call.actor.name))


def _looking(service: LlmService) -> list[Action]:
    async def models(_: Invocation, __: NoParams) -> list[ModelRow]:
        gateway = service.gateway
        rows = [
            ModelRow(each.model.name, each.endpoint, each.place.value, each.model.size, each.model.context,
                     each.model.parameters, each.model.capabilities, each.model.loaded)
            for each in gateway.models()
        ]  # fmt: skip
        return rows + [
            ModelRow(name, "", place.value, stands_for=model)
            for name, places in gateway.aliases.items() for place, model in places.items()
        ]  # fmt: skip

    async def endpoints(_: Invocation, __: NoParams) -> list[EndpointStatus]:
        return list(service.gateway.status().endpoints)

    async def route(_: Invocation, params: Routing) -> Decision:
        return service.gateway.decide(params.request())

    async def ledger(_: Invocation, params: Page) -> dict[str, Any]:
        gateway = service.gateway
        entries: list[LedgerEntry] = await gateway.ledger.entries(params.limit, params.before)
        return {"spent": await gateway.ledger.refresh(), "entries": entries}

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("llm.models", "List models, where each is, and what the aliases stand for", models,
              brief=lambda rows: counted(len(rows), "model")),
        query("llm.endpoints", "Show endpoints: state, load, pace, failures", endpoints,
              brief=_healths),
        query("llm.route", "Explain where a request would go, without sending it", route, Routing, positional=("prompt",),
              role=Role.operator),
        query("llm.ledger", "Show what left the house: bytes, tokens, to whom, why", ledger, Page, role=Role.operator),
    ]  # fmt: skip


def _switching(service: LlmService) -> list[Action]:
    async def switch(call: Invocation, params: Named, how: str) -> EndpointStatus:
        gateway = service.gateway
        await gateway.switch(params.name, how, call.actor.name)
        return gateway.gauge(params.name).status()

    async def drain(call: Invocation, params: Named) -> EndpointStatus:
        return await switch(call, params, "draining")

    async def halt(call: Invocation, params: Named) -> EndpointStatus:
        return await switch(call, params, "halted")

    async def resume(call: Invocation, params: Named) -> EndpointStatus:
        return await switch(call, params, "")

    async def probe(_: Invocation, params: Looked) -> list[EndpointStatus]:
        return [gauge.status() for gauge in await service.gateway.look(params.name)]

    one = functools.partial(Action, params=Named, positional=("name",), role=Role.operator)
    return [
        one("llm.drain", "Give an endpoint no new requests; what it does, it ends", drain),
        one("llm.halt", "Leave an endpoint in peace: no requests, no probes", halt),
        one("llm.resume", "Let an endpoint serve again", resume),
        Action("llm.probe", "Look now how an endpoint is, or all of them", probe, params=Looked, positional=("name",),
               role=Role.operator, timeout=60.0, brief=_healths),
    ]  # fmt: skip


def _healths(rows: list[EndpointStatus]) -> str:
    """ "edge healthy; cloud degraded"."""
    return "; ".join(f"{each.name} {each.health.value}" for each in rows)
