"""Scriptable upstreams: servers that speak Ollama's and OpenAI's protocols as documented, with faults on demand.

Every request that arrives is kept with its body: that is the log by which tests prove what was sent, and what was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ("The", " sky", " is", " blue", ".")
HANG = 3600.0
MADE = "2026-11-01T00:00:00Z"


class Upstream:
    """What both kinds share.

    Attributes:
        script: Faults of the next answers, one each; without one it answers well. "hang", "hang-mid", "half-line", "500",
            "429", "429:SECONDS", "no-model", "overflow", "drop", "cut", "garbage", "error-line", "slow:SECONDS".
        always: A fault of every answer.
        sick: Probes fail.
        asked: (path, body) of every request for an answer.
        probes: Of every other request.
        cancelled: Answers whose reader went away.
    """

    def __init__(self, models: dict[str, dict[str, Any]] | None = None) -> None:
        self.models = models if models is not None else {"llama3.2:latest": {}}
        self.script: deque[str] = deque()
        self.always = ""
        self.sick = False
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.raw: list[bytes] = []
        self.probes: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.cancelled = 0
        self.words: tuple[str, ...] = WORDS
        self.tool: tuple[str, dict[str, Any]] | None = None
        self.pause = 0.0
        self.url = ""
        self.port = 0

    async def fault(self, request: Request) -> tuple[str, dict[str, Any]]:
        raw = await request.body()
        body = json.loads(raw)
        self.raw.append(raw)
        self.asked.append((request.url.path, body))
        self.headers.append(dict(request.headers))
        told = self.script.popleft() if self.script else self.always
        if told == "hang":
            await self.hang(request)
            told = "gone"
        if told.startswith("slow:"):
            await asyncio.sleep(float(told[5:]))
        return told, body

    async def hang(self, request: Request) -> None:
        """Answer nothing until the reader goes."""
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        self.cancelled += 1

    async def stream(self, fault: str, lines: list[bytes], half: bytes) -> AsyncIterator[bytes]:
        done = False
        try:
            for number, line in enumerate(lines):
                if number == 2:
                    if fault == "hang-mid":
                        await asyncio.sleep(HANG)
                    if fault == "half-line":
                        yield half
                        return
                    if fault == "cut":
                        return
                    if fault == "drop":
                        raise ConnectionResetError("scripted")
                yield line
                if self.pause:
                    await asyncio.sleep(self.pause)
            done = True
        finally:
            if not done and fault not in {"half-line", "drop", "cut"}:
                self.cancelled += 1


class FakeOllama(Upstream):
    """As https://docs.ollama.com/api has it."""

    def app(self) -> Starlette:
        return Starlette(routes=[
            Route("/api/tags", self.tags), Route("/api/version", self.version), Route("/api/ps", self.ps),
            Route("/api/show", self.show, methods=["POST"]), Route("/api/chat", self.answer, methods=["POST"]),
            Route("/api/generate", self.answer, methods=["POST"]), Route("/api/embed", self.embed, methods=["POST"]),
        ])  # fmt: skip

    def row(self, name: str) -> dict[str, Any]:
        own = self.models[name]
        handed_on = {"remote_host": own["remote"], "remote_model": f"{name}-really"} if "remote" in own else {}
        return {
            **handed_on, "name": name, "model": name, "modified_at": MADE, "size": own.get("size", 2_019_393_189),
            "digest": own.get("digest", f"sha-of-{name}"),
            "details": {"format": "gguf", "family": "llama", "parameter_size": "3.2B", "quantization_level": "Q4_K_M"},
        }  # fmt: skip

    async def tags(self, request: Request) -> Response:
        self.probes.append(request.url.path)
        if self.sick:
            return JSONResponse({"error": "scripted"}, 500)
        return JSONResponse({"models": [self.row(name) for name in self.models]})

    async def version(self, _: Request) -> Response:
        return JSONResponse({"version": "0.12.6"})

    async def ps(self, _: Request) -> Response:
        return JSONResponse({"models": [{**self.row(name), "context_length": 4096} for name in list(self.models)[:1]]})

    async def show(self, request: Request) -> Response:
        own = self.models[(await request.json())["model"]]
        info = {"general.architecture": "llama", "llama.context_length": own.get("context", 131072)}
        return JSONResponse({"capabilities": own.get("capabilities", ["completion", "tools"]), "model_info": info})

    async def answer(self, request: Request) -> Response:
        fault, body = await self.fault(request)
        model, chat = body["model"], request.url.path.endswith("chat")
        if refused := self.refusal(fault, model):
            return refused
        rows: list[dict[str, Any]] = [
            {"message": {"role": "assistant", "content": word}} if chat else {"response": word} for word in self.words
        ]
        if self.tool and chat:
            call = {"function": {"name": self.tool[0], "arguments": self.tool[1]}}
            rows.append({"message": {"role": "assistant", "content": "", "tool_calls": [call]}})
        head = {"model": model, "created_at": MADE}
        lines = [json.dumps({**head, **row, "done": False}).encode() + b"\n" for row in rows]
        if fault == "error-line":
            lines[2:] = [b'{"error":"the runner has stopped"}\n']
        end = {"message": {"role": "assistant", "content": ""}} if chat else {"response": "", "context": [1, 2, 3]}
        counts = {"prompt_eval_count": 26, "eval_count": len(self.words), "total_duration": 5, "eval_duration": 3}
        last = {**head, **end, "done": True, "done_reason": "stop", **counts}
        half = json.dumps({**head, **rows[0], "done": False}).encode()[:30]
        return StreamingResponse(
            self.stream(fault, [*lines, json.dumps(last).encode() + b"\n"], half), media_type="application/x-ndjson"
        )

    def refusal(self, fault: str, model: str) -> Response | None:
        if fault == "gone":
            return Response(status_code=499)
        if fault == "no-model" or model not in self.models:
            return JSONResponse({"error": f"model '{model}' not found"}, 404)
        if fault == "500":
            return JSONResponse({"error": "llama runner process has terminated"}, 500)
        if fault.startswith("429"):
            after = fault.partition(":")[2]
            return JSONResponse({"error": "server busy"}, 429, headers={"retry-after": after} if after else None)
        if fault == "overflow":
            return JSONResponse({"error": "the input length exceeds the context length"}, 400)
        if fault == "garbage":
            return Response(b"<html>a proxy's page</html>\n")
        return None

    async def embed(self, request: Request) -> Response:
        fault, body = await self.fault(request)
        if refused := self.refusal(fault, body["model"]):
            return refused
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = [[float(len(text)), 0.5, 0.25] for text in inputs]
        return JSONResponse({"model": body["model"], "embeddings": vectors, "prompt_eval_count": 8})


class FakeOpenAi(Upstream):
    """As https://platform.openai.com/docs/api-reference/chat has it."""

    def app(self) -> Starlette:
        return Starlette(routes=[
            Route("/v1/models", self.list), Route("/v1/chat/completions", self.answer, methods=["POST"]),
            Route("/v1/embeddings", self.embed, methods=["POST"]),
        ])  # fmt: skip

    async def list(self, request: Request) -> Response:
        self.probes.append(request.url.path)
        self.headers.append(dict(request.headers))
        rows = [{"id": name, "object": "model", "created": 1, "owned_by": "test"} for name in self.models]
        return JSONResponse({"object": "list", "data": rows})

    async def answer(self, request: Request) -> Response:
        fault, body = await self.fault(request)
        if refused := self.refusal(fault, body["model"]):
            return refused
        if fault == "whole":  # as servers do that cannot stream
            message = {"role": "assistant", "content": "".join(self.words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 26, "completion_tokens": 5, "total_tokens": 31}
            text = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}, indent=2)
            return Response(text, media_type="application/json")
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

        def line(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"

        lines = [line({"role": "assistant", "content": ""}), *(line({"content": word}) for word in self.words)]
        if self.tool:
            name, text = self.tool[0], json.dumps(self.tool[1])
            first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
            lines.append(line({"tool_calls": [first]}))
            halves = (text[: len(text) // 2], text[len(text) // 2 :])
            lines += [line({"tool_calls": [{"index": 0, "function": {"arguments": each}}]}) for each in halves]
        usage = {"prompt_tokens": 26, "completion_tokens": len(self.words), "total_tokens": 26 + len(self.words)}
        lines.append(line({}, "tool_calls" if self.tool else "stop"))
        if fault == "error-line":
            lines[2:] = [b'data: {"error":{"message":"the backend died","type":"server_error"}}\n\n']
        lines += [b"data: " + json.dumps({**head, "choices": [], "usage": usage}).encode() + b"\n\n", b"data: [DONE]\n\n"]
        return StreamingResponse(self.stream(fault, lines, line({"content": "x"})[:30]), media_type="text/event-stream")

    def refusal(self, fault: str, model: str) -> Response | None:
        def error(message: str, code: str, status: int, after: str = "") -> Response:
            headers = {"retry-after": after} if after else None
            body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
            return JSONResponse(body, status, headers=headers)

        if fault == "gone":
            return Response(status_code=499)
        if fault == "no-model" or model not in self.models:
            return error(f"The model `{model}` does not exist", "model_not_found", 404)
        if fault == "500":
            return error("The server had an error", "server_error", 500)
        if fault.startswith("429"):
            return error("Rate limit reached", "rate_limit_exceeded", 429, fault.partition(":")[2])
        if fault == "overflow":
            told = "This model's maximum context length is 4096 tokens."
            return error(told, "context_length_exceeded", 400)
        if fault == "401":
            return error("Incorrect API key provided", "invalid_api_key", 401)
        return Response(b"data: <html>\n\n") if fault == "garbage" else None

    async def embed(self, request: Request) -> Response:
        fault, body = await self.fault(request)
        if refused := self.refusal(fault, body["model"]):
            return refused
        rows = [
            {"object": "embedding", "index": number, "embedding": [float(len(text)), 0.5]}
            for number, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 8, "total_tokens": 8}
        return JSONResponse({"object": "list", "data": rows, "model": body["model"], "usage": usage})


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def bound(waiting: int = 128) -> socket.socket:
    """A listening socket on a port of loopback; its protocol is named, or asyncio leaves Nagle's delay on (40 ms)."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(waiting)
    return sock


@asynccontextmanager
async def serving(app: Callable[..., Any]) -> AsyncIterator[int]:
    """An application on a port of loopback; yields the port."""
    with bound() as sock:
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.wait({task}, timeout=5)
            task.cancel()


@asynccontextmanager
async def up(*fakes: FakeOllama | FakeOpenAi) -> AsyncIterator[None]:
    """Let them serve."""
    async with contextlib.AsyncExitStack() as stack:
        for fake in fakes:
            fake.port = await stack.enter_async_context(serving(fake.app()))
            fake.url = f"http://127.0.0.1:{fake.port}"
        yield
