"""OpenAI's API as a client, as far as compatible servers have it: chat completions, embeddings, models."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import Message, ModelInfo, Operation, Piece, Request, ToolCall, Usage
from appliance.core.llm.ollama import EMBEDDING, MOST_MODELS
from appliance.core.llm.refusals import words
from appliance.core.llm.upstream import PROBE, lacks_route, pieces_of, some, table
from appliance.core.llm.wire import LINE, Wire, document

OPTIONS = {
    "temperature": "temperature", "top_p": "top_p", "num_predict": "max_tokens", "stop": "stop", "seed": "seed",
    "presence_penalty": "presence_penalty", "frequency_penalty": "frequency_penalty",
}  # fmt: skip
"""Ollama's names → OpenAI's; others exist at Ollama alone."""
MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"), (b"GIF8", "image/gif"), (b"RIFF", "image/webp"))
CALLS = 128
"""Most calls of tools in one answer."""
NOTHING = Piece()


class OpenAi:
    """One server that speaks as OpenAI does (implements upstream.Upstream).

    Args:
        url: Its address, with or without /v1.
        key: Bearer token; empty for none.
        most: Connections that are kept.
        models: What it has, where it does not tell itself.
        context: Tokens, where it does not tell itself; 0 for not known.
        house: It must be in the house.
    """

    def __init__(
        self, url: str, key: str = "", most: int = 32, models: tuple[str, ...] = (), context: int = 0, *, house: bool = False
    ) -> None:
        base = url if url.rsplit("/", 1)[-1].startswith("v") and url.count("/") > 2 else f"{url}/v1"
        self._url = base
        self._wire = Wire(base, key, most, house=house)
        self._models, self._context = models, context

    async def close(self) -> None:
        """See upstream.Upstream."""
        await self._wire.close()

    async def probe(self) -> tuple[str, tuple[ModelInfo, ...] | None]:
        """See upstream.Upstream."""
        named = tuple(ModelInfo(name, context=self._context or None) for name in self._models)
        try:
            found = table(await self._wire.fetch("GET", "/models", patience=PROBE), self._url)
        except LlmError as error:
            if lacks_route(error):  # it lives, and has no such route
                return "", named or None
            raise
        rows = [each for each in some(found.get("data"), list) or [] if isinstance(each, dict) and each.get("id")]
        told = tuple(self._info(each) for each in rows[:MOST_MODELS])
        known = {each.name for each in told}
        return "", told + tuple(each for each in named if each.name not in known)

    def _info(self, row: dict[str, Any]) -> ModelInfo:
        meta = some(row.get("meta"), dict) or {}  # llama-server's
        context = some(row.get("max_model_len"), int) or some(row.get("context_length"), int) or some(meta.get("n_ctx"), int)
        context = context or some(meta.get("n_ctx_train"), int) or self._context or None
        return ModelInfo(str(row["id"]), some(meta.get("size"), int), context, family=some(row.get("owned_by"), str) or "")

    def encode(self, wanted: Request, model: str) -> bytes:
        """See upstream.Upstream."""
        if wanted.operation is Operation.embed:
            given: dict[str, Any] = {"model": model, "input": list(wanted.inputs), "encoding_format": "float"}
            return msgspec.json.encode({**given, **({"dimensions": wanted.dimensions} if wanted.dimensions else {})})
        messages = wanted.messages if wanted.operation is Operation.chat else _as_chat(wanted)
        body: dict[str, Any] = {
            **wanted.extra, "model": model, "messages": _messages(messages), "stream": True,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        body |= {OPTIONS[name]: value for name, value in wanted.options.items() if name in OPTIONS and value is not None}
        if "max_completion_tokens" in body:  # newer servers take no other name for it, older ones not this one
            body.pop("max_tokens", None)
        if wanted.tools:
            body["tools"] = list(wanted.tools)
            body |= {} if wanted.tool_choice is None else {"tool_choice": wanted.tool_choice}
        if wanted.format == "json":
            body["response_format"] = {"type": "json_object"}
        elif isinstance(wanted.format, dict):
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted.format}}
        return msgspec.json.encode(body)

    async def send(self, wanted: Request, body: bytes, stall: float) -> AsyncGenerator[list[Piece]]:
        """See upstream.Upstream."""
        if wanted.operation is Operation.embed:
            found = table(await self._wire.fetch("POST", "/embeddings", body, patience=EMBEDDING), self._url)
            yield [self._embedded(found)]
            return
        reading = _Reading(self._url)
        async with self._wire.ask("POST", "/chat/completions", body, stall) as exchange:
            while (lines := await exchange.lines()) is not None:
                pieces, error = pieces_of(lines, reading.line)
                if pieces and pieces[-1].finish:
                    exchange.release()
                    yield pieces
                    return
                if pieces:
                    exchange.moved()
                    yield pieces
                    exchange.moved()
                if error is not None:
                    raise error
            exchange.release()
            yield [reading.end()]

    def _embedded(self, found: dict[str, Any]) -> Piece:
        try:
            rows = sorted(found["data"], key=lambda row: row.get("index", 0))
            vectors = tuple(msgspec.convert(row["embedding"], tuple[float, ...]) for row in rows)
        except (KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
            raise LlmError(Fault.garbled, f"{self._url} sent no embeddings: {error}.") from error
        return Piece(embeddings=vectors, finish="stop", usage=_usage(found.get("usage")) or Usage())


class _Reading:
    """What the lines of one answer say together."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._calls, self._finish = _Calls(), ""
        self._usage: Usage | None = None
        self._plain = bytearray()

    def line(self, line: bytes) -> Piece | None:
        """One of them. Raises LlmError."""
        if not line.startswith(b"data:"):
            self._plain += line[: LINE - len(self._plain)]
            return None
        data = line[5:].strip()
        if data == b"[DONE]":
            return self._last("stop")
        row = table(document(data, self._url), self._url)
        if row.get("error"):
            raise LlmError(Fault.broken, f"{self._url} says: {words(data)}", "see its log.")
        self._usage = _usage(row.get("usage")) or self._usage
        piece, self._finish = _delta(row, self._calls, self._finish)
        return piece

    def end(self) -> Piece:
        """Of an answer that ended without saying so. Raises LlmError."""
        if self._finish:
            return self._last(self._finish)
        if self._plain.lstrip().startswith(b"{"):
            return _completion(table(document(bytes(self._plain), self._url), self._url), self._url)
        raise LlmError(Fault.cut, f"{self._url} ended its answer before the end.")

    def _last(self, finish: str) -> Piece:
        calls = self._calls.whole(self._url)
        return Piece(tool_calls=calls, finish=self._finish or finish, usage=self._usage or Usage())


class _Calls:
    """Gathers calls of tools, which come in parts."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[str, str]] = {}

    def add(self, rows: list[Any]) -> None:
        """Parts of calls; a server that does not number them sends each whole."""
        for row in rows:
            if not isinstance(row, dict):
                continue
            told = some(row.get("index"), int)
            index = len(self._parts) if told is None else told
            if index not in self._parts and len(self._parts) >= CALLS:
                continue
            part = self._parts.setdefault(index, {"id": "", "name": "", "arguments": ""})
            function = some(row.get("function"), dict) or {}
            arguments = function.get("arguments")
            part["id"] = some(row.get("id"), str) or part["id"]
            part["name"] = some(function.get("name"), str) or part["name"]
            part["arguments"] += (
                msgspec.json.encode(arguments).decode() if isinstance(arguments, dict) else (some(arguments, str) or "")
            )

    def whole(self, url: str) -> tuple[ToolCall, ...]:
        """All of them. Raises LlmError where the arguments of one are no JSON object."""
        found = []
        for _, part in sorted(self._parts.items()):
            arguments = table(document((part["arguments"] or "{}").encode(), url), url)
            found.append(ToolCall(part["name"], arguments, part["id"]))
        return tuple(found)


def _delta(row: dict[str, Any], calls: _Calls, finish: str) -> tuple[Piece, str]:
    choices = row.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return NOTHING, finish
    finish = some(choice.get("finish_reason"), str) or finish
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return NOTHING, finish
    if told := some(delta.get("tool_calls"), list):
        calls.add(told)
    text = some(delta.get("content"), str) or ""
    thinking = some(delta.get("reasoning_content") or delta.get("reasoning"), str) or ""
    return Piece(text, thinking) if text or thinking else NOTHING, finish


def _completion(row: dict[str, Any], url: str) -> Piece:
    """The answer of a server that does not stream, although it was asked to. Raises LlmError."""
    if row.get("error"):
        raise LlmError(Fault.broken, f"{url} says: {words(msgspec.json.encode(row))}", "see its log.")
    choice = next((each for each in some(row.get("choices"), list) or [] if isinstance(each, dict)), None)
    if choice is None:
        raise LlmError(Fault.garbled, f"{url} sent an answer without choices.")
    message, calls = some(choice.get("message"), dict) or {}, _Calls()
    calls.add([{"index": number, **each} for number, each in enumerate(some(message.get("tool_calls"), list) or [])
               if isinstance(each, dict)])  # fmt: skip
    return Piece(
        some(message.get("content"), str) or "", some(message.get("reasoning_content"), str) or "", calls.whole(url),
        finish=some(choice.get("finish_reason"), str) or "stop", usage=_usage(row.get("usage")) or Usage(),
    )  # fmt: skip


def _usage(row: Any) -> Usage | None:
    if not isinstance(row, dict):
        return None
    return Usage(some(row.get("prompt_tokens"), int), some(row.get("completion_tokens"), int))


def _as_chat(wanted: Request) -> tuple[Message, ...]:
    if wanted.raw or wanted.suffix or wanted.template or wanted.context:
        raise LlmError(Fault.bad, "This endpoint takes no raw prompts, suffixes, templates or contexts.", "leave them out.")
    system = (Message("system", wanted.system),) if wanted.system else ()
    return (*system, Message("user", wanted.prompt, wanted.images))


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """In OpenAI's form; a tool's result names the call that it answers, which Ollama's form need not."""
    rows: list[dict[str, Any]] = []
    open_calls: list[tuple[str, str]] = []
    for number, each in enumerate(messages):
        row: dict[str, Any] = {"role": each.role, "content": _content(each)}
        if each.tool_calls:
            named = [(call.id or f"call_{number}_{place}", call) for place, call in enumerate(each.tool_calls)]
            open_calls += [(mark, call.name) for mark, call in named]
            row["tool_calls"] = [
                {"id": mark, "type": "function",
                 "function": {"name": call.name, "arguments": msgspec.json.encode(call.arguments).decode()}}
                for mark, call in named
            ]  # fmt: skip
        if each.role == "tool":
            row["tool_call_id"] = each.tool_call_id or _answered(open_calls, each.tool_name)
        rows.append(row)
    return rows


def _answered(open_calls: list[tuple[str, str]], name: str) -> str:
    found = next((each for each in open_calls if each[1] == name), open_calls[0] if open_calls else ("call_0", ""))
    if found in open_calls:
        open_calls.remove(found)
    return found[0]


def _content(each: Message) -> Any:
    if not each.images:
        return each.content
    parts: list[dict[str, Any]] = [{"type": "text", "text": each.content}] if each.content else []
    return parts + [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in each.images]


def data_url(image: str) -> str:
    """A picture in Base64 as an address (RFC 2397). Raises LlmError."""
    try:
        head = base64.b64decode(image[:16], validate=True)
    except (binascii.Error, ValueError) as error:
        raise LlmError(Fault.bad, f"An image is no Base64: {error}.", "send its bytes in Base64, without a prefix.") from error
    kind = next((kind for magic, kind in MAGIC if head.startswith(magic)), "image/jpeg")
    return f"data:{kind};base64,{image}"
