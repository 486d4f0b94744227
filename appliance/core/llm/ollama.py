"""Ollama's API as a client (https://docs.ollama.com/api)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import Message, ModelInfo, Operation, Piece, Request, ToolCall, Usage, hands_on
from appliance.core.llm.refusals import fault_of, plain
from appliance.core.llm.upstream import PROBE, lacks_route, pieces_of, some, table
from appliance.core.llm.wire import Wire, document

PATHS = {Operation.chat: "/api/chat", Operation.generate: "/api/generate", Operation.embed: "/api/embed"}
EMBEDDING = 300.0
"""Seconds that embeddings may take."""
MOST_MODELS = 2000
SHOWN_AT_ONCE = 4


class Ollama:
    """One Ollama (implements upstream.Upstream).

    Args:
        url: Its address.
        key: Bearer token; empty for none.
        most: Connections that are kept.
        house: It must be in the house.
    """

    def __init__(self, url: str, key: str = "", most: int = 32, *, house: bool = False) -> None:
        self._url = url.removesuffix("/api")
        self._wire = Wire(self._url, key, most, house=house)
        self._details: dict[str, tuple[int | None, tuple[str, ...] | None]] = {}
        """Digest → (context, capabilities); those of models that are gone are dropped."""

    async def close(self) -> None:
        """See upstream.Upstream."""
        await self._wire.close()

    async def probe(self) -> tuple[str, tuple[ModelInfo, ...] | None]:
        """See upstream.Upstream."""
        tags = table(await self._wire.fetch("GET", "/api/tags", patience=PROBE), self._url)
        listed = [each for each in some(tags.get("models"), list) or [] if isinstance(each, dict)][:MOST_MODELS]
        version, running = await asyncio.gather(self._version(), self._running())
        digests = {str(each.get("digest") or each.get("name")): str(each.get("model") or each.get("name")) for each in listed}
        await self._look(digests)
        return version, tuple(self._info(each, running) for each in listed)

    async def _version(self) -> str:
        try:
            found = table(await self._wire.fetch("GET", "/api/version", patience=PROBE), self._url)
        except LlmError as error:
            if lacks_route(error):  # servers that imitate Ollama may lack it
                return ""
            raise
        return some(found.get("version"), str) or ""

    async def _running(self) -> dict[str, int | None]:
        """Loaded models, each with the context it was loaded with."""
        try:
            found = table(await self._wire.fetch("GET", "/api/ps", patience=PROBE), self._url)
        except LlmError as error:
            if lacks_route(error):
                return {}
            raise
        rows = [each for each in some(found.get("models"), list) or [] if isinstance(each, dict)]
        return {str(each.get("model") or each.get("name")): some(each.get("context_length"), int) for each in rows}

    async def _look(self, digests: Mapping[str, str]) -> None:
        """Ask for the details of models that are new."""
        gate = asyncio.Semaphore(SHOWN_AT_ONCE)

        async def one(digest: str, name: str) -> None:
            async with gate:
                body = msgspec.json.encode({"model": name})
                found = table(await self._wire.fetch("POST", "/api/show", body, patience=PROBE), self._url)
            told = some(found.get("capabilities"), list)
            capabilities = None if told is None else tuple(str(each) for each in told)
            self._details[digest] = (context_of(found.get("model_info")), capabilities)

        self._details = {digest: known for digest, known in self._details.items() if digest in digests}
        fresh = [(digest, name) for digest, name in digests.items() if digest not in self._details]
        results = await asyncio.gather(*(one(*each) for each in fresh), return_exceptions=True)
        for result in results:  # a model may be removed meanwhile, or the server lack the route: it is just not known then
            if isinstance(result, BaseException) and not isinstance(result, LlmError):
                raise result

    def _info(self, row: Mapping[str, Any], running: Mapping[str, int | None]) -> ModelInfo:
        name = str(row.get("model") or row.get("name"))
        context, capabilities = self._details.get(str(row.get("digest") or row.get("name")), (None, None))
        details = some(row.get("details"), dict) or {}
        return ModelInfo(
            name, some(row.get("size"), int), running.get(name) or context, some(row.get("digest"), str) or "",
            some(details.get("family"), str) or "", some(details.get("parameter_size"), str) or "",
            some(details.get("quantization_level"), str) or "", capabilities, name in running,
            some(row.get("modified_at"), str) or "", remote_of(row, name),
        )  # fmt: skip

    def encode(self, wanted: Request, model: str) -> bytes:
        """See upstream.Upstream."""
        shared: dict[str, Any] = {"model": model, "options": wanted.options, "keep_alive": wanted.keep_alive}
        if wanted.operation is Operation.embed:
            own: dict[str, Any] = {
                "input": list(wanted.inputs), "truncate": wanted.truncate, "dimensions": wanted.dimensions,
            }  # fmt: skip
        else:
            own = {"stream": True, "format": wanted.format, "think": wanted.think}
            own |= _chat(wanted) if wanted.operation is Operation.chat else _generate(wanted)
        given = {name: value for name, value in {**shared, **own}.items() if value not in (None, {}, [], "")}
        return msgspec.json.encode({**given, **({"prompt": wanted.prompt} if wanted.operation is Operation.generate else {})})

    async def send(self, wanted: Request, body: bytes, stall: float) -> AsyncGenerator[list[Piece]]:
        """See upstream.Upstream."""
        path = PATHS[wanted.operation]
        if wanted.operation is Operation.embed:
            found = table(await self._wire.fetch("POST", path, body, patience=EMBEDDING), self._url)
            yield [embedded(found, self._url)]
            return
        async with self._wire.ask("POST", path, body, stall) as exchange:
            while (lines := await exchange.lines()) is not None:
                pieces, error = pieces_of(lines, self._line)
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
        raise LlmError(Fault.cut, f"{self._url} ended its answer before the end.")

    def _line(self, line: bytes) -> Piece | None:
        return self._piece(table(document(line, self._url), self._url)) if line.strip() else None

    def _piece(self, row: dict[str, Any]) -> Piece:
        if told := row.get("error"):
            fault, step = fault_of(500, str(told), named_time=False)
            raise LlmError(fault, f"{self._url} says: {plain(str(told))}", step)
        message = some(row.get("message"), dict) or {}
        text = message.get("content") if message else row.get("response")
        finish, usage = "", None
        if row.get("done") is True:
            finish = some(row.get("done_reason"), str) or "stop"
            usage = Usage(some(row.get("prompt_eval_count"), int), some(row.get("eval_count"), int))
        calls = tuple(_call(each) for each in some(message.get("tool_calls"), list) or [] if isinstance(each, dict))
        thinking = some(message.get("thinking") or row.get("thinking"), str) or ""
        context = tuple(each for each in some(row.get("context"), list) or [] if isinstance(each, int))
        return Piece(some(text, str) or "", thinking, calls, finish=finish, usage=usage, context=context)


def _call(row: dict[str, Any]) -> ToolCall:
    function = some(row.get("function"), dict) or {}
    arguments = some(function.get("arguments"), dict) or {}
    return ToolCall(str(function.get("name", "")), arguments, some(row.get("id"), str) or "")


def _chat(wanted: Request) -> dict[str, Any]:
    return {"messages": [_message(each) for each in wanted.messages], "tools": list(wanted.tools)}


def _message(each: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": each.role, "content": each.content}
    if each.images:
        row["images"] = each.images
    if each.thinking:
        row["thinking"] = each.thinking
    if each.tool_name:
        row["tool_name"] = each.tool_name
    if each.tool_calls:
        row["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in each.tool_calls]
    return row


def _generate(wanted: Request) -> dict[str, Any]:
    return {
        "system": wanted.system, "suffix": wanted.suffix, "template": wanted.template, "raw": wanted.raw or None,
        "images": list(wanted.images), "context": list(wanted.context),
    }  # fmt: skip


def embedded(found: dict[str, Any], url: str) -> Piece:
    """Ollama's answer to /api/embed. Raises LlmError."""
    rows = found.get("embeddings")
    try:
        vectors = msgspec.convert(rows, tuple[tuple[float, ...], ...])
    except msgspec.ValidationError as error:
        raise LlmError(Fault.garbled, f"{url} sent no embeddings: {error}.") from error
    return Piece(embeddings=vectors, finish="stop", usage=Usage(some(found.get("prompt_eval_count"), int), None))


def remote_of(row: Mapping[str, Any], name: str) -> str:
    """Where a model really runs that the server only hands on (Ollama's cloud models); empty where it runs there."""
    told = some(row.get("remote_host"), str) or some(row.get("remote_model"), str)
    return told or ("ollama.com" if hands_on(name) else "")


def context_of(info: Any) -> int | None:
    """Tokens of context: the key ends in .context_length, before it stands the architecture."""
    for name, value in info.items() if isinstance(info, dict) else ():
        if str(name).endswith(".context_length"):
            return some(value, int)  # type: ignore[no-any-return]
    return None
