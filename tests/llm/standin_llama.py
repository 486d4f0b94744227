"""Stands in for llama.cpp's llama-server, as its documentation has it.

It takes the same words on the command line, says 503 at /health while a model loads, and has OpenAI's routes. A test writes how
it goes wrong into FILE.how beside the model: "dies", "crashes", "slow". No library is loaded: it starts at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

LOOKS = 3
"""Looks at /health until the model is loaded."""
WORDS = ("The", " sky", " is", " blue", ".")
LOADING = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}


class Server:
    """One model."""

    def __init__(self, name: str, how: str) -> None:
        self._name, self._how = name, how
        self._looks = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
                await reader.readexactly(size)
                writer.write(self._answer(head.split(b" ", 2)[1].decode()))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, path: str) -> bytes:
        if path == "/health":
            self._looks += 1
            loads = self._how == "slow" or self._looks < LOOKS
            return _whole(503, LOADING) if loads else _whole(200, {"status": "ok"})
        if path == "/v1/models":
            return _whole(200, {"object": "list", "data": [{"id": self._name, "object": "model"}]})
        if self._how == "crashes":
            os._exit(139)
        rows: list[object] = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS]
        rows += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                 {"choices": [], "usage": {"prompt_tokens": 26, "completion_tokens": 5}}]  # fmt: skip
        body = b"".join(b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows) + b"data: [DONE]\n\n"
        return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _whole(status: int, row: object) -> bytes:
    body = json.dumps(row).encode()
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body


async def main() -> None:
    """Serve until somebody ends it."""
    found = argparse.ArgumentParser()
    for name in ("-m", "--host", "--alias"):
        found.add_argument(name, required=True)
    for name in ("--port", "--ctx-size", "--parallel"):
        found.add_argument(name, type=int, required=True)
    given = found.parse_args()
    model = Path(given.m)
    told = model.with_suffix(".how")
    how = told.read_text(encoding="utf-8").strip() if told.exists() else ""
    sys.stdout.write(f"loading {model.name} with {given.ctx_size} tokens for {given.parallel}\n")
    sys.stdout.flush()
    if how == "dies":
        sys.stderr.write("error: failed to allocate the context\n")
        sys.exit(1)
    async with await asyncio.start_server(Server(given.alias, how).serve, given.host, given.port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
