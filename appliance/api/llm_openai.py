"""OpenAI's API as a server: chat completions, models, embeddings, as its official clients speak it."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from appliance.api.llm import ActorOf, Allow, Door, Streamed, checked, field, reply, told, way_of, wishes
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import Answer, Message, Operation, Piece, ToolCall
from appliance.core.llm.model import Request as Wanted
from appliance.core.llm.service import LlmService
from appliance.core.model import Role
from appliance.errors import ApplianceError, InvalidArgumentsError

if TYPE_CHECKING:
    from appliance.core.llm.stream import Stream

OPTIONS = {
    "temperature": "temperature", "top_p": "top_p", "seed": "seed", "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty", "max_tokens": "num_predict", "max_completion_tokens": "num_predict",
}  # fmt: skip
"""OpenAI's names → Ollama's."""
HANDED_ON = (
    "user", "metadata", "parallel_tool_calls", "reasoning_effort", "service_tier", "store", "logit_bias",
    "max_completion_tokens",
)  # fmt: skip
"""Fields that go to endpoints of OpenAI's kind as they are."""
CODES = {
    Fault.no_model: "model_not_found", Fault.too_long: "context_length_exceeded", Fault.busy: "rate_limit_exceeded",
    Fault.full: "rate_limit_exceeded", Fault.capped: "insufficient_quota",
}  # fmt: skip
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class OpenAiDoor:
    """The routes.

    Args:
        service: The gateway.
        actor_of: Tells who sends a request.
        allow: Raises where a token's scopes do not reach.
    """

    def __init__(self, service: LlmService, actor_of: ActorOf, allow: Allow | None) -> None:
        self._door = Door(service, actor_of, allow, form)
        self._service = service

    def routes(self) -> list[BaseRoute]:
        """All."""
        made = self._door.handler
        return [
            Route("/v1/chat/completions", made(self.chat), methods=["POST"], name="openai chat"),
            Route("/v1/embeddings", made(self.embeddings), methods=["POST"], name="openai embeddings"),
            Route("/v1/models", made(self.models), methods=["GET"], name="openai models"),
            Route("/v1/models/{model:path}", made(self.model), methods=["GET"], name="openai model"),
        ]

    async def chat(self, request: Request) -> Response:
        """A talk."""
        who = self._door.who(request, "llm.chat")
        body = await self._door.body(request)
        wanted = _wanted(request, body)
        mark = f"chatcmpl-{uuid4().hex}"
        if not field(body, "stream", bool, False):
            answer = await self._door.whole(request, wanted, who)
            return reply(_completion(mark, answer), headers=way_of(answer))
        usage = field(field(body, "stream_options", dict, {}), "include_usage", bool, False)
        opened = await self._door.open(request, wanted, who)
        return Streamed(opened, _events(opened, mark, usage=usage), "text/event-stream")

    async def embeddings(self, request: Request) -> Response:
        """Vectors of texts."""
        who = self._door.who(request, "llm.embed")
        body = await self._door.body(request)
        given = body.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise InvalidArgumentsError("input is neither a text nor a list of texts.", "send texts, not tokens.")
        wanted = Wanted(
            operation=Operation.embed, model=field(body, "model", str, ""), inputs=tuple(texts),
            dimensions=field(body, "dimensions", int, 0) or None, wishes=wishes(request.headers),
        )  # fmt: skip
        answer = await self._door.whole(request, wanted, who)
        packed = field(body, "encoding_format", str, "float") == "base64"
        rows = [
            {"object": "embedding", "index": number, "embedding": _packed(each) if packed else each}
            for number, each in enumerate(answer.embeddings)
        ]
        counted = answer.usage.tokens_in or 0
        return reply({
            "object": "list", "data": rows, "model": answer.model,
            "usage": {"prompt_tokens": counted, "total_tokens": counted}, "prime_spark": told(answer),
        })  # fmt: skip

    async def models(self, request: Request) -> Response:
        """Models of all endpoints, and the aliases."""
        self._door.who(request, "llm.models", Role.viewer)
        return reply({"object": "list", "data": list(self._rows().values())})

    async def model(self, request: Request) -> Response:
        """One of them."""
        self._door.who(request, "llm.models", Role.viewer)
        name = request.path_params["model"]
        rows = self._rows()
        row = rows.get(name) or rows.get(f"{name}:latest")
        if row is None:
            raise LlmError(Fault.no_model, f"The model '{name}' does not exist.", "see /v1/models.")
        return reply(row)

    def _rows(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for each in self._service.gateway.models():
            row = {"id": each.model.name, "object": "model", "created": 0, "owned_by": each.endpoint}
            found.setdefault(each.model.name, row)
        for name in self._service.gateway.aliases:
            found.setdefault(name, {"id": name, "object": "model", "created": 0, "owned_by": "prime-spark"})
        return found


def _wanted(request: Request, body: Mapping[str, Any]) -> Wanted:
    if field(body, "n", int, 1) != 1:
        raise InvalidArgumentsError("n is not 1.", "ask several times; one request has one answer here.")
    if field(body, "logprobs", bool, False):
        raise InvalidArgumentsError("logprobs are not given here.", "leave logprobs out.")
    messages = tuple(_message(each) for each in field(body, "messages", list, []))
    if not messages:
        raise InvalidArgumentsError("messages is missing or empty.", 'send [{"role": "user", "content": "…"}].')
    options = {mine: body[name] for name, mine in OPTIONS.items() if body.get(name) is not None}
    if (stop := body.get("stop")) is not None:
        options["stop"] = [stop] if isinstance(stop, str) else stop
    return checked(Wanted(
        operation=Operation.chat, model=field(body, "model", str, ""), messages=messages,
        tools=tuple(each for each in field(body, "tools", list, []) if isinstance(each, dict)),
        tool_choice=body.get("tool_choice"), format=_format(field(body, "response_format", dict, {})), options=options,
        extra={name: body[name] for name in HANDED_ON if body.get(name) is not None}, wishes=wishes(request.headers),
    ))  # fmt: skip


def _format(given: Mapping[str, Any]) -> Any:
    if given.get("type") == "json_object":
        return "json"
    if given.get("type") == "json_schema":
        return field(field(given, "json_schema", dict, {}), "schema", dict, {}) or "json"
    return None


def _message(row: Any) -> Message:
    if not isinstance(row, dict):
        raise InvalidArgumentsError("A message is no object.", 'send {"role": "user", "content": "…"}.')
    text, images = _content(row.get("content"))
    role = field(row, "role", str, "user")
    calls = [_call(each) for each in field(row, "tool_calls", list, [])]
    return Message(
        "system" if role == "developer" else role, text, images, tuple(calls), field(row, "name", str, ""),
        field(row, "tool_call_id", str, ""),
    )  # fmt: skip


def _call(row: Any) -> ToolCall:
    function = field(row, "function", dict, {}) if isinstance(row, dict) else {}
    text = field(function, "arguments", str, "") or "{}"
    try:
        arguments = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise InvalidArgumentsError(f"The arguments of a tool's call are no JSON object: {error}.", "mend them.") from None
    return ToolCall(field(function, "name", str, ""), arguments, field(row, "id", str, ""))


def _content(given: Any) -> tuple[str, tuple[str, ...]]:
    """Text and pictures of a message's content."""
    if given is None or isinstance(given, str):
        return given or "", ()
    if not isinstance(given, list):
        raise InvalidArgumentsError("The content of a message is neither a text nor a list of parts.", "mend it.")
    texts: list[str] = []
    images: list[str] = []
    for part in given:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(field(part, "text", str, ""))
        elif kind == "image_url":
            images.append(_image(field(field(part, "image_url", dict, {}), "url", str, "")))
        else:
            raise InvalidArgumentsError(f"A part of type {kind!r} is not taken.", "send parts of type text and image_url.")
    return "\n".join(texts), tuple(images)


def _image(url: str) -> str:
    head, comma, data = url.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64") and comma):
        raise InvalidArgumentsError(
            "An image is no data: address.", "send it inside the request (data:image/png;base64,…); nothing is fetched."
        )
    return data


def _completion(mark: str, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if answer.tool_calls else "")}
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    if answer.tool_calls:
        message["tool_calls"] = [{"id": each["id"], "type": "function", "function": each["function"]}
                                 for each in _calls(answer.tool_calls)]  # fmt: skip
    choice = {"index": 0, "message": message, "finish_reason": _finish(answer), "logprobs": None}
    return {
        "id": mark, "object": "chat.completion", "created": int(time.time()), "model": answer.model, "choices": [choice],
        "usage": _usage(answer), "prime_spark": told(answer),
    }  # fmt: skip


async def _events(stream: Stream, mark: str, *, usage: bool) -> AsyncGenerator[bytes]:
    head = {"id": mark, "object": "chat.completion.chunk", "created": int(time.time()), "model": stream.choice.model}

    def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        return _sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})

    begin = event({"role": "assistant", "content": ""})
    try:
        async with aclosing(stream.batches()) as batches:
            async for batch in batches:
                if lines := [event(delta) for each in batch if (delta := _delta(each))]:
                    yield begin + b"".join(lines)
                    begin = b""
    except LlmError as error:
        yield _sse(form(error, error.status))
        return
    if (answer := stream.answer) is None:
        return
    last = _sse({**head, "choices": [], "usage": _usage(answer)}) if usage else b""
    yield begin + event({}, _finish(answer), prime_spark=told(answer)) + last + b"data: [DONE]\n\n"


def _sse(row: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(row) + b"\n\n"


def _delta(piece: Piece) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if piece.text:
        delta["content"] = piece.text
    if piece.thinking:
        delta["reasoning_content"] = piece.thinking
    if piece.tool_calls:
        delta["tool_calls"] = _calls(piece.tool_calls)
    return delta


def _calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {"index": number, "id": call.id or f"call_{uuid4().hex[:24]}", "type": "function",
         "function": {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()}}
        for number, call in enumerate(calls)
    ]  # fmt: skip


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.tool_calls else answer.finish if answer.finish in {"length", "content_filter"} else "stop"


def _usage(answer: Answer) -> dict[str, int] | None:
    """None where the endpoint did not count."""
    into, out = answer.usage.tokens_in, answer.usage.tokens_out
    if into is None and out is None:
        return None
    return {"prompt_tokens": into or 0, "completion_tokens": out or 0, "total_tokens": (into or 0) + (out or 0)}


def _packed(vector: tuple[float, ...]) -> str:
    """As the official clients ask for it: 32-bit floats, little-endian, Base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def form(error: ApplianceError, status: int) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = CODES.get(error.fault, error.fault.value) if isinstance(error, LlmError) else error.code
    return {"error": {"message": str(error), "type": kind, "param": None, "code": code}}
