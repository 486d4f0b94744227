"""The values of the language models' gateway. What nobody told is None, never 0."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from appliance.core.model import Health


class Place(StrEnum):
    """Where an endpoint runs."""

    edge = "edge"
    agent = "agent"
    """Another machine of the house, such as the Spark Agent."""
    cloud = "cloud"


HOUSE = frozenset({Place.edge, Place.agent})
"""Places from which nothing leaves the house."""


class Kind(StrEnum):
    """What an endpoint speaks."""

    ollama = "ollama"
    openai = "openai"
    gguf = "gguf"
    """Files of a folder, served by a runner of this machine."""


class Privacy(StrEnum):
    """How far a request may go."""

    any = "any"
    edge_only = "edge-only"


class Strategy(StrEnum):
    """Which endpoint comes first (contracts, section 5)."""

    edge_first = "edge-first"
    cloud_first = "cloud-first"
    balanced = "balanced"
    """Lowest expected time to the whole answer."""
    edge_only = "edge-only"


class Operation(StrEnum):
    """What is wanted of a model."""

    chat = "chat"
    generate = "generate"
    embed = "embed"


class ModelInfo(msgspec.Struct, frozen=True):
    """One model of one endpoint, as the endpoint tells."""

    name: str
    size: int | None = None
    """Bytes."""
    context: int | None = None
    """Tokens."""
    digest: str = ""
    family: str = ""
    parameters: str = ""
    """Such as "3.2B"."""
    quantization: str = ""
    capabilities: tuple[str, ...] | None = None
    """"completion", "tools", "vision", "embedding", …; None where it does not say."""
    loaded: bool | None = None
    modified: str = ""
    remote: str = ""
    """Where it really runs, if its endpoint only hands on what it is asked (Ollama's cloud models)."""


def hands_on(name: str) -> bool:
    """Ollama's names for models that run at Ollama's, not where it is asked: "gpt-oss:120b-cloud", "glm-4.6:cloud"."""
    _, colon, tag = name.rpartition(":")
    return bool(colon) and (tag == "cloud" or tag.endswith("-cloud"))


class EndpointStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint: as it is configured, and as probes and requests found it."""

    name: str
    kind: Kind
    place: Place
    url: str
    health: Health
    reason: str
    next_step: str = ""
    models: tuple[ModelInfo, ...] | None = None
    """None where it never told."""
    version: str = ""
    switch: str = ""
    """"draining" or "halted" by an operator; empty where it serves."""
    switched_by: str = ""
    since: float = 0.0
    """Wall clock from which it is as health and switch say; 0 where nobody has looked yet."""
    limit: int = 1
    """Requests that it does at a time."""
    in_flight: int = 0
    queue: int = 0
    """Requests that wait for it."""
    queue_limit: int = 0
    first_token_ms: float | None = None
    """Moving mean from sending to the first token."""
    tokens_per_s: float | None = None
    """Moving mean."""
    probe_ms: float | None = None
    error_rate: float | None = None
    """Moving mean, 0…1."""
    cooldown_s: float | None = None
    """Seconds until it is asked again; None where it is not rested."""
    probed: float = 0.0
    """Wall clock of the last probe; 0 before the first."""
    requests: int = 0
    failures: int = 0
    price_in: float | None = None
    """For a million tokens; None where none is set."""
    price_out: float | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model wants made."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


class Message(msgspec.Struct, frozen=True):
    """One turn of a talk."""

    role: str
    content: str = ""
    images: tuple[str, ...] = ()
    """Base64."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    thinking: str = ""


class Wishes(msgspec.Struct, frozen=True):
    """What a caller may ask of the routing of one request."""

    privacy: Privacy = Privacy.any
    strategy: Strategy | None = None
    place: Place | None = None
    endpoint: str = ""
    max_cost: float | None = None
    hedge: bool | None = None
    """None: as the settings have it."""
    cache: bool | None = None
    """None: where temperature is 0."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, in no front's own form.

    Attributes:
        model: Name or alias; empty for the default one.
        options: By Ollama's names: temperature, top_p, top_k, seed, num_predict, num_ctx, stop, …
        format: "json", or a JSON Schema.
        extra: Further fields for endpoints that speak as OpenAI does.
    """

    operation: Operation
    model: str = ""
    messages: tuple[Message, ...] = ()
    prompt: str = ""
    system: str = ""
    suffix: str = ""
    template: str = ""
    raw: bool = False
    context: tuple[int, ...] = ()
    inputs: tuple[str, ...] = ()
    """Texts to embed."""
    images: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    format: Any = None
    options: dict[str, Any] = {}
    think: Any = None
    keep_alive: Any = None
    dimensions: int | None = None
    truncate: bool | None = None
    extra: dict[str, Any] = {}
    wishes: Wishes = Wishes()


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as the endpoint counted; None where it does not say."""

    tokens_in: int | None = None
    tokens_out: int | None = None


class Piece(msgspec.Struct, frozen=True):
    """A part of an answer."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    finish: str = ""
    """Set in the last one: "stop", "length", "tool_calls"."""
    usage: Usage | None = None
    context: tuple[int, ...] = ()

    @property
    def empty(self) -> bool:
        """It says nothing."""
        return not (self.text or self.thinking or self.tool_calls or self.embeddings or self.finish or self.usage)


class Choice(msgspec.Struct, frozen=True):
    """An endpoint that may answer, with the model it would be asked for."""

    endpoint: str
    place: Place
    model: str
    why: str
    last_resort: bool = False
    """It rests or is not well; it is asked where nobody else is left."""
    expected_ms: float | None = None
    """Until the whole answer; None where the endpoint has answered nothing yet."""
    cost: float | None = None
    """Expected; None where no price is set."""


class Passed(msgspec.Struct, frozen=True):
    """An endpoint that may not answer, and why."""

    endpoint: str
    why: str


class Decision(msgspec.Struct, frozen=True):
    """Who is asked, in order."""

    strategy: Strategy
    because: str
    choices: tuple[Choice, ...]
    passed: tuple[Passed, ...] = ()


class Attempt(msgspec.Struct, frozen=True):
    """One try of an endpoint that gave no first token."""

    endpoint: str
    why: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, with where, why and what it cost."""

    text: str
    model: str
    endpoint: str
    place: Place
    why: str
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    embeddings: tuple[tuple[float, ...], ...] = ()
    finish: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    """In the currency of the prices; None where none is set or the tokens are not known."""
    first_token_ms: float | None = None
    latency_ms: float = 0.0
    cached: bool = False
    left_house_bytes: int = 0
    attempts: tuple[Attempt, ...] = ()


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request that left the house."""

    id: int
    time: float
    """Wall clock, seconds since the epoch."""
    who: str
    endpoint: str
    place: Place
    model: str
    operation: Operation
    why: str
    bytes: int
    """Of the request's body."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    outcome: str = "sent"
    """"sent" while it is under way or where the appliance ended meanwhile; "answered", "failed" or "given up"; "not sent" where
    nobody could be reached, so that nothing left."""


class SentTo(msgspec.Struct, frozen=True):
    """What one endpoint got of that."""

    endpoint: str
    requests: int
    bytes: int
    tokens: int
    cost: float


class Spent(msgspec.Struct, frozen=True):
    """What left the house in the last 24 hours, with what was set aside for answers under way, and the caps."""

    requests: int = 0
    bytes: int = 0
    tokens: int = 0
    cost: float = 0.0
    bytes_cap: int | None = None
    tokens_cap: int | None = None
    cost_cap: float | None = None
    to: tuple[SentTo, ...] = ()
    """To whom, the most first; as it was at the last look or ended answer."""


class Routed(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was decided, as the list of the last ones has it. Prompts are not kept."""

    time: float
    who: str
    operation: Operation
    asked: str
    endpoint: str
    place: Place | None
    model: str
    why: str
    privacy: Privacy
    outcome: str
    """"answered", "cached", "failed" or "given up"."""
    first_token_ms: float | None = None
    latency_ms: float | None = None
    tokens_out: int | None = None
    cost: float | None = None
    tries: int = 1
    attempts: tuple[Attempt, ...] = ()
    """Endpoints that gave no first token before this one."""


class LlmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Section.llm."""

    strategy: Strategy
    """The configured one."""
    holds: Strategy
    """The one that holds now, with the power."""
    because: str
    forbids: tuple[str, ...] = ()
    """What no request may do now, in words."""
    endpoints: tuple[EndpointStatus, ...] = ()
    decisions: tuple[Routed, ...] = ()
    """Newest first."""
    spent: Spent = Spent()
    requests: int = 0
    answered: int = 0
    failed: int = 0
    given_up: int = 0
    """The caller went away."""
    failovers: int = 0
    hedges: int = 0
    retries: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_failures: int = 0
