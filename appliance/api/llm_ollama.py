"""Ollama's API as a server (https://docs.ollama.com/api): its clients and OpenWebUI point at the appliance."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from appliance import __version__
from appliance.api.llm import ActorOf, Allow, Door, Streamed, checked, field, reply, told, way_of, wishes
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import Answer, Message, ModelInfo, Operation, Piece, ToolCall
from appliance.core.llm.model import Request as Wanted
from appliance.core.llm.service import LlmService
from appliance.core.model import Role
from appliance.errors import ApplianceError, InvalidArgumentsError

if TYPE_CHECKING:
    from appliance.core.llm.stream import Stream

NDJSON = "application/x-ndjson"
NS = 1_000_000
"""Nanoseconds of a millisecond."""


class OllamaDoor:
    """The routes.

    Args:
        service: The gateway.
        actor_of: Tells who sends a request.
        allow: Raises where a token's scopes do not reach.
    """

    def __init__(self, service: LlmService, actor_of: ActorOf, allow: Allow | None) -> None:
        self._door = Door(service, actor_of, allow, lambda error, _: {"error": text_of(error)})
        self._service = service

    def routes(self) -> list[BaseRoute]:
        """All."""
        posts = {"generate": self.generate, "chat": self.chat, "embed": self.embed, "embeddings": self.embeddings,
                 "show": self.show}  # fmt: skip
        gets = {"tags": self.tags, "version": self.version, "ps": self.ps}
        made = self._door.handler
        return [
            *(Route(f"/api/{name}", made(work), methods=["POST"], name=f"ollama {name}") for name, work in posts.items()),
            *(Route(f"/api/{name}", made(work), methods=["GET"], name=f"ollama {name}") for name, work in gets.items()),
        ]

    async def chat(self, request: Request) -> Response:
        """A talk."""
        who = self._door.who(request, "llm.chat")
        body = await self._door.body(request)
        _named(body, "messages")
        wanted = Wanted(
            operation=Operation.chat, messages=tuple(_message(each) for each in field(body, "messages", list, [])),
            tools=tuple(each for each in field(body, "tools", list, []) if isinstance(each, dict)),
            **_shared(request, body),
        )  # fmt: skip
        return await self._answer(request, wanted, who, stream=field(body, "stream", bool, True))

    async def generate(self, request: Request) -> Response:
        """A prompt."""
        who = self._door.who(request, "llm.generate")
        body = await self._door.body(request)
        _named(body, "prompt")
        texts: dict[str, Any] = {name: field(body, name, str, "") for name in ("prompt", "system", "suffix", "template")}
        context = tuple(each for each in field(body, "context", list, []) if isinstance(each, int))
        wanted = Wanted(
            operation=Operation.generate, raw=field(body, "raw", bool, False), context=context,
            images=_images(field(body, "images", list, [])), **texts, **_shared(request, body),
        )  # fmt: skip
        return await self._answer(request, wanted, who, stream=field(body, "stream", bool, True))

    async def _answer(self, request: Request, wanted: Wanted, who: str, *, stream: bool) -> Response:
        wanted = checked(wanted)
        if not stream:
            answer = await self._door.whole(request, wanted, who)
            piece = Piece(answer.text, answer.thinking, answer.tool_calls)
            return reply({**_row(wanted, answer.model, piece), **_end(wanted, answer)}, headers=way_of(answer))
        opened = await self._door.open(request, wanted, who)
        return Streamed(opened, _lines(opened, wanted), NDJSON)

    async def embed(self, request: Request) -> Response:
        """Vectors of texts."""
        who = self._door.who(request, "llm.embed")
        body = await self._door.body(request)
        given = body.get("input", [])
        texts = [given] if isinstance(given, str) else given
        answer = await self._embedded(request, body, texts, who)
        counts = {"prompt_eval_count": answer.usage.tokens_in, "total_duration": int(answer.latency_ms * NS)}
        known = {name: value for name, value in counts.items() if value is not None}
        return reply({"model": answer.model, "embeddings": answer.embeddings, **known, "prime_spark": told(answer)})

    async def embeddings(self, request: Request) -> Response:
        """The vector of one text, in the older form."""
        who = self._door.who(request, "llm.embed")
        body = await self._door.body(request)
        answer = await self._embedded(request, body, [field(body, "prompt", str, "")], who)
        return reply({"embedding": answer.embeddings[0] if answer.embeddings else []})

    async def _embedded(self, request: Request, body: dict[str, Any], texts: Any, who: str) -> Answer:
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InvalidArgumentsError("input is neither a text nor a list of texts.", "send texts.")
        shared = _shared(request, body)
        shared.pop("format")
        shared.pop("think")
        wanted = Wanted(
            operation=Operation.embed, inputs=tuple(texts), truncate=field(body, "truncate", bool, True),
            dimensions=field(body, "dimensions", int, 0) or None, **shared,
        )  # fmt: skip
        return await self._door.whole(request, wanted, who)

    async def tags(self, request: Request) -> Response:
        """Models of all endpoints, and the aliases."""
        self._door.who(request, "llm.models", Role.viewer)
        rows = [_tag(model) for model in self._models().values()]
        names = [ModelInfo(name) for name in self._service.gateway.aliases]
        return reply({"models": [*rows, *(_tag(each) for each in names)]})

    async def ps(self, request: Request) -> Response:
        """Models that are loaded somewhere."""
        self._door.who(request, "llm.models", Role.viewer)
        return reply({"models": [
            {**_tag(model), "context_length": model.context}
            for model in self._models().values() if model.loaded
        ]})  # fmt: skip

    async def show(self, request: Request) -> Response:
        """What is known of a model."""
        self._door.who(request, "llm.models", Role.viewer)
        body = await self._door.body(request)
        name = field(body, "model", str, "") or field(body, "name", str, "")
        known = self._models()
        names = [name, *self._service.gateway.aliases.get(name, {}).values()]  # an alias is what it leads to
        model = next((known[each] for one in names for each in (one, f"{one}:latest") if each in known), None)
        if model is None:
            raise LlmError(Fault.no_model, f"model '{name}' not found", "see /api/tags.")
        family = model.family or "unknown"
        info = {"general.architecture": family, f"{family}.context_length": model.context} if model.context else {}
        return reply({
            "details": _details(model), "model_info": info, "capabilities": model.capabilities or (),
            "modelfile": "", "parameters": "", "template": "",
        })  # fmt: skip

    async def version(self, request: Request) -> Response:
        """Of the appliance."""
        self._door.who(request, "llm.models", Role.viewer)
        return reply({"version": __version__})

    def _models(self) -> dict[str, ModelInfo]:
        """By name; of one that several endpoints have, the first that tells."""
        found: dict[str, ModelInfo] = {}
        for each in self._service.gateway.models():
            found.setdefault(each.model.name, each.model)
        return found


async def _lines(stream: Stream, wanted: Wanted) -> AsyncGenerator[bytes]:
    model = stream.choice.model
    try:
        async with aclosing(stream.batches()) as batches:
            async for batch in batches:
                if lines := [_line(wanted, model, each) for each in batch if each.text or each.thinking or each.tool_calls]:
                    yield b"".join(lines)
    except LlmError as error:
        yield msgspec.json.encode({"error": text_of(error)}) + b"\n"
        return
    if stream.answer is not None:
        yield msgspec.json.encode({**_row(wanted, model, Piece()), **_end(wanted, stream.answer)}) + b"\n"


def _line(wanted: Wanted, model: str, piece: Piece) -> bytes:
    return msgspec.json.encode({**_row(wanted, model, piece), "done": False}) + b"\n"


def _row(wanted: Wanted, model: str, piece: Piece) -> dict[str, Any]:
    made = datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z")
    row: dict[str, Any] = {"model": model, "created_at": made}
    if wanted.operation is Operation.generate:
        return {**row, "response": piece.text, **({"thinking": piece.thinking} if piece.thinking else {})}
    message: dict[str, Any] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.tool_calls:
        message["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in piece.tool_calls]
    return {**row, "message": message}


def _end(wanted: Wanted, answer: Answer) -> dict[str, Any]:
    """The fields of the last line; a number that nobody told is left out."""
    writing = answer.latency_ms - (answer.first_token_ms or 0.0)
    counts = {
        "total_duration": int(answer.latency_ms * NS), "prompt_eval_count": answer.usage.tokens_in,
        "eval_count": answer.usage.tokens_out, "eval_duration": int(max(0.0, writing) * NS),
    }  # fmt: skip
    known = {name: value for name, value in counts.items() if value is not None}
    reason = "stop" if answer.finish in {"tool_calls", ""} else answer.finish
    return {"done": True, "done_reason": reason, **known, "prime_spark": told(answer)}


def _named(body: Mapping[str, Any], what: str) -> None:
    """A model alone is loaded (https://docs.ollama.com/api); nothing at all is a mistake. Raises InvalidArgumentsError."""
    if not body.get("model") and not body.get(what):
        raise InvalidArgumentsError(f"model and {what} are missing.", f"send {what}, and a model or an alias if you want one.")


def _shared(request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": field(body, "model", str, ""), "options": field(body, "options", dict, {}),
        "format": body.get("format") or None,
        "think": body.get("think"), "keep_alive": body.get("keep_alive"), "wishes": wishes(request.headers),
    }  # fmt: skip


def _message(row: Any) -> Message:
    if not isinstance(row, dict):
        raise InvalidArgumentsError("A message is no object.", 'send {"role": "user", "content": "…"}.')
    calls = [field(each, "function", dict, {}) for each in field(row, "tool_calls", list, []) if isinstance(each, dict)]
    return Message(
        field(row, "role", str, "user"), field(row, "content", str, ""), _images(field(row, "images", list, [])),
        tuple(ToolCall(str(each.get("name", "")), field(each, "arguments", dict, {})) for each in calls),
        field(row, "tool_name", str, ""), field(row, "tool_call_id", str, ""), field(row, "thinking", str, ""),
    )  # fmt: skip


def _images(rows: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(each, str) for each in rows):
        raise InvalidArgumentsError("An image is no text.", "send its bytes in Base64.")
    return tuple(rows)


def _tag(model: ModelInfo) -> dict[str, Any]:
    row = {"name": model.name, "model": model.name, "digest": model.digest, "details": _details(model)}
    optional = {"size": model.size, "modified_at": model.modified or None}
    return {**row, **{name: value for name, value in optional.items() if value is not None}}


def _details(model: ModelInfo) -> dict[str, Any]:
    return {
        "format": "gguf" if model.quantization else "", "family": model.family, "parameter_size": model.parameters,
        "quantization_level": model.quantization,
    }  # fmt: skip


def text_of(error: ApplianceError) -> str:
    """What happened and the next step, in one text: this protocol has one field for both."""
    return str(error)
