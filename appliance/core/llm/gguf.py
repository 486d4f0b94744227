"""Files of models (GGUF) in a folder of this machine as an endpoint: a runner serves the one that is asked for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec

from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.model import ModelInfo, Piece, Request
from appliance.core.llm.openai import OpenAi
from appliance.core.llm.runner import Runner

MAGIC = b"GGUF"
PART = re.compile(r"-0*([0-9]+)-of-[0-9]+$")
"""Of a model in several files; the first one stands for all."""
MOST = 1000
CONTEXT = 4096
"""Tokens, where the settings do not say."""


class _Named(msgspec.Struct):
    model: str


class Gguf:
    """The files of one folder (implements upstream.Upstream).

    Args:
        folder: Where they are.
        runner: Serves them.
        context: Tokens that it is started with.
    """

    def __init__(self, folder: Path, runner: Runner, context: int) -> None:
        self._folder, self._runner, self._context = folder, runner, context
        self._speaker = OpenAi("http://127.0.0.1")
        self._client: tuple[str, OpenAi] | None = None

    async def close(self) -> None:
        """See upstream.Upstream."""
        await self._forget()
        await self._runner.stop()

    async def probe(self) -> tuple[str, tuple[ModelInfo, ...] | None]:
        """See upstream.Upstream. The runner is not started for that."""
        program = await self._runner.found()
        files = await asyncio.to_thread(files_of, self._folder)
        running = self._runner.model if self._runner.runs else None
        return program.module or "llama-server", tuple(
            ModelInfo(name, size, self._context, digest=mark, loaded=path == running)
            for name, (path, size, mark) in files.items()
        )  # fmt: skip

    def encode(self, wanted: Request, model: str) -> bytes:
        """See upstream.Upstream."""
        return self._speaker.encode(wanted, model)

    async def send(self, wanted: Request, body: bytes, stall: float) -> AsyncGenerator[list[Piece]]:
        """See upstream.Upstream."""
        name = msgspec.json.decode(body, type=_Named).model
        files = await asyncio.to_thread(files_of, self._folder)
        if name not in files:
            told = f"There is no model {name} in {self._folder}."
            raise LlmError(Fault.no_model, told, f"there are: {', '.join(files) or 'none'}.", sent=False)
        async with self._runner.serving(files[name][0]) as url:
            client = await self._at(url)
            async with aclosing(client.send(wanted, body, stall)) as batches:
                async for batch in batches:
                    yield batch

    async def _at(self, url: str) -> OpenAi:
        if self._client is None or self._client[0] != url:
            await self._forget()
            self._client = url, OpenAi(url)
        return self._client[1]

    async def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client[1].close()


def files_of(folder: Path) -> dict[str, tuple[Path, int, str]]:
    """Name → (file, bytes, a mark that changes with it); blocks. Raises LlmError."""
    found: dict[str, tuple[Path, int, str]] = {}
    try:
        for path in sorted(folder.glob("*.gguf"))[:MOST]:
            part = PART.search(path.stem)
            if path.name.startswith("mmproj") or (part and int(part[1]) != 1) or not path.is_file():
                continue
            with path.open("rb") as file:
                if file.read(4) != MAGIC:
                    continue
            told = path.stat()
            found[path.stem] = path, told.st_size, f"{told.st_size}-{told.st_mtime_ns}"
        if not found and not folder.is_dir():
            raise FileNotFoundError(2, "there is no such folder")
    except OSError as error:
        told_by = f"{folder} cannot be read: {error.strerror}."
        raise LlmError(Fault.absent, told_by, "mend llm.endpoints.NAME.folder; put *.gguf files there.", sent=False) from error
    return found
