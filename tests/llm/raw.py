"""Upstreams of raw bytes: for faults that no server library brings about."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answering = Callable[[int, asyncio.StreamWriter], Awaitable[bool]]
"""(number of the request, where to write) → whether the connection stays open."""
TAGS = {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "digest": "d", "size": 1}]}
END = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", "eval_count": 1,
       "prompt_eval_count": 1}  # fmt: skip


class Raw:
    """A server that reads requests and answers in bytes; `asked` has the body of each request for an answer.

    Args:
        answering: Answers them.
    """

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self.asked: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(size)
                if head.startswith(b"GET"):
                    writer.write(whole(json.dumps(TAGS if b"/tags" in head else {"version": "1", "models": []}).encode()))
                elif b"/api/show" in head:
                    writer.write(whole(b"{}"))
                else:
                    self.asked.append(body)
                    if not await self._answering(len(self.asked), writer):
                        return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def serving(raw: Raw) -> AsyncIterator[None]:
    """Let it serve on a port of loopback."""
    async with await asyncio.start_server(raw.serve, "127.0.0.1", 0) as server:
        raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def told(text: str) -> bytes:
    """A line of Ollama's."""
    return json.dumps({"message": {"role": "assistant", "content": text}, "done": False}).encode() + b"\n"


def line(row: object) -> bytes:
    """Any line."""
    return json.dumps(row).encode() + b"\n"
