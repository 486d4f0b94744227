"""A runner of GGUF files as a child: llama.cpp's llama-server, or llama-cpp-python's or cyllama's; one model at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from appliance.core.backoff import backoff
from appliance.core.llm.faults import Fault, LlmError
from appliance.core.llm.refusals import plain
from appliance.core.llm.wire import Wire

log = logging.getLogger(__name__)

LOADING = 600.0
"""Seconds that a model may take to load."""
LOOK = 0.1
"""Seconds between two looks whether it is loaded."""
FIRST_REST, LONGEST_REST = 1.0, 60.0
"""Seconds before a runner that ended is started again, doubling."""
PROVEN = 60.0
"""Seconds after which a runner that ended had worked: its failures are counted anew."""
ENDING = 5.0
"""Seconds between asking a runner to end and ending it."""
SAID = 12
"""Last lines of a runner that are kept."""
ASKING = 20.0
"""Seconds in which an interpreter must say what it has."""
MODULES = ("llama_cpp.server", "cyllama.llama.server")
HOW = (
    "install llama.cpp's llama-server, or `pip install llama-cpp-python[server]` for this program's own Python; or name one in"
    " llm.endpoints.NAME.program."
)


class Program(msgspec.Struct, frozen=True):
    """A runner that is installed.

    Attributes:
        words: How it is called.
        module: Of Python; empty for llama-server.
    """

    words: tuple[str, ...]
    module: str = ""

    def command(self, model: Path, port: int, context: int, slots: int) -> list[str]:
        """How it serves a model on loopback; `context` tokens for each of `slots` requests at a time."""
        served = {
            "": ["-m", str(model), "--ctx-size", str(context * slots), "--parallel", str(slots), "--alias", model.stem],
            "llama_cpp.server": ["--model", str(model), "--n_ctx", str(context), "--model_alias", model.stem],
            "cyllama.llama.server": ["-m", str(model), "--ctx-size", str(context), "--gpu-layers", "0"],
        }[self.module]
        return [*self.words, *served, "--host", "127.0.0.1", "--port", str(port)]


def find(program: str) -> Program | None:
    """The runner to use; blocks. A name or path of llama-server or of a Python that has a server; empty: whichever is there."""
    if program:
        path = shutil.which(program)
        if path is None:
            return None
        return _of_python(path) if Path(path).name.startswith("python") else Program((path,))
    found = shutil.which("llama-server")
    return Program((found,)) if found else _of_python(sys.executable)


def _of_python(path: str) -> Program | None:
    asked = "import importlib.util as u, sys; sys.exit(0 if u.find_spec({!r}) and u.find_spec({!r}) else 1)"
    for module in MODULES:
        words = [path, "-I", "-c", asked.format(module.partition(".")[0], module)]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run(words, capture_output=True, timeout=ASKING, check=False).returncode == 0:  # noqa: S603 our own words
                return Program((path, "-m", module), module)
    return None


class Runner:
    """The child.

    Args:
        program: Its name or path; empty for whichever is installed.
        context: Tokens for each request.
        slots: Requests at a time.
        tied: The command that makes a child end with this process.
    """

    def __init__(self, program: str, context: int, slots: int, tied: list[str]) -> None:
        self._program, self._context, self._slots, self._tied = program, context, slots, tied
        self._child: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=SAID)
        self._turn = asyncio.Condition()
        self._users = self._failures = 0
        self._began = self._rests_until = 0.0
        self.model: Path | None = None
        """The one that it serves, or loads."""
        self.url = ""
        self.starts = 0

    @property
    def runs(self) -> bool:
        """It lives; it may still be loading."""
        return self._child is not None and self._child.returncode is None

    async def found(self) -> Program:
        """What is installed. Raises LlmError."""
        program = await asyncio.to_thread(find, self._program)
        if program is None:
            named = f"{self._program} is no runner for GGUF files" if self._program else "no runner for GGUF files is installed"
            raise LlmError(Fault.absent, f"{named[0].upper()}{named[1:]}.", HOW, sent=False)
        return program

    @asynccontextmanager
    async def serving(self, model: Path) -> AsyncIterator[str]:
        """Where a model is served; loaded first where it is not, as soon as nobody uses another one. Raises LlmError."""
        async with self._turn:
            await self._turn.wait_for(lambda: self._users == 0 or self.model == model)
            self._users += 1
            if self._users == 1 and self.model != model:
                await self._halt()
                self.model = model
        try:
            await self._ready(model)
            yield self.url
        finally:
            async with self._turn:
                self._users -= 1
                self._turn.notify_all()

    async def stop(self) -> None:
        """End it."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        await self._halt()

    async def _ready(self, model: Path) -> None:
        """Start it where it does not run. The start goes on though its caller goes: the next one then finds it loaded."""
        if self._starting is None and not (self.runs and self.url):
            self._starting = asyncio.create_task(self._start(model), name="llm runner")
            self._starting.add_done_callback(self._started)
        if self._starting is not None:
            await asyncio.shield(self._starting)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("the runner of GGUF files did not start: %s", error)

    async def _start(self, model: Path) -> None:
        loop = asyncio.get_running_loop()
        if self._child is not None:
            self._ended(loop.time())
        if (left := self._rests_until - loop.time()) > 0:
            told = f"The runner of GGUF files ended {self._failures} times in a row: {self.last}."
            raise LlmError(Fault.broken, told, "see whether the file is whole and fits into the memory.", left, sent=False)
        program = await self.found()
        port = await asyncio.to_thread(_free_port)
        command = [*self._tied, *program.command(model, port, self._context, self._slots)]
        self._said.clear()
        self.starts += 1
        self._child = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        self._began = loop.time()
        self._reading = asyncio.create_task(self._listen(self._child), name="llm runner's words")
        try:
            await self._loaded(f"http://127.0.0.1:{port}", self._child)
        except BaseException:
            await self._halt()
            raise
        self.url = f"http://127.0.0.1:{port}"

    async def _loaded(self, url: str, child: asyncio.subprocess.Process) -> None:
        """Wait until it serves: llama-server tells by /health, others by their list of models. Raises LlmError."""
        loop, wire = asyncio.get_running_loop(), Wire(url)
        ends = loop.time() + LOADING
        try:
            while loop.time() < ends and child.returncode is None:
                if await _answers(wire):
                    return
                await asyncio.sleep(LOOK)
        finally:
            await wire.close()
        what = "ended" if child.returncode is not None else f"did not load its model within {LOADING:g} s"
        if child.returncode is not None:
            self._ended(loop.time())
        told = f"The runner of GGUF files {what}: {self.last}."
        raise LlmError(Fault.broken, told, "see whether the file is whole and fits into the memory.", sent=False)

    @property
    def last(self) -> str:
        """The last words of the child."""
        return plain(" | ".join(list(self._said)[-3:])) or "it said nothing"

    def _ended(self, now: float) -> None:
        """Count an end that nobody asked for."""
        self._failures = 1 if now - self._began > PROVEN else self._failures + 1
        self._rests_until = now + backoff(self._failures, FIRST_REST, LONGEST_REST)
        self._child, self.url = None, ""

    async def _listen(self, child: asyncio.subprocess.Process) -> None:
        """Keep its last lines: a pipe that nobody reads would stop it."""
        assert child.stdout is not None
        rest = b""
        while piece := await child.stdout.read(8192):
            *lines, rest = (rest + piece)[-8192:].split(b"\n")
            self._said.extend(plain(line.decode(errors="replace")) for line in lines if line.strip())
        if rest.strip():
            self._said.append(plain(rest.decode(errors="replace")))

    async def _halt(self) -> None:
        child, self._child, self.url = self._child, None, ""
        if child is not None and child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                async with asyncio.timeout(ENDING):
                    await child.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


async def _answers(wire: Wire) -> bool:
    for path in ("/health", "/v1/models"):
        try:
            await wire.fetch("GET", path, patience=5.0)
        except LlmError as error:
            if error.answered == 404:  # this kind has no such address
                continue
            return False
        return True
    return False


def _free_port() -> int:
    """One that was free a moment ago: these servers cannot all say which one they took of themselves."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
