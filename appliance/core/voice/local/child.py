"""The recognition's process as the appliance sees it: started, asked, stopped, and killed where it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

import appliance
from appliance.core.voice.local import wire
from appliance.errors import VoiceError

log = logging.getLogger(__name__)

MODULE = "appliance.core.voice.local.worker"
ROOT = str(Path(appliance.__file__).resolve().parent.parent)
"""Where the package lies: the process starts elsewhere."""
START = 30.0
"""Seconds for the interpreter and the model to come up."""
REAP = 2.0
"""Seconds that a killed process is waited for."""
TAIL = 2000
"""Bytes of its standard error that are kept."""
STEP = "it is started again by itself; if it goes on, see the log."

Message = dict[str, Any]


class EndedError(VoiceError):
    """The process ended by itself, or somebody else ended it, while it was asked."""


class AnswerError(Exception):
    """The worker answered with an error of a kind of wire."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Child:
    """One run of the worker; made by `started`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._tail = b""
        self._why = ""
        self.gone = False
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._ready = self._expect(0)
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._read_errors())]

    @classmethod
    async def started(cls, directory: Path, threads: int, environ: Mapping[str, str]) -> Child:
        """Start it, and wait until the model is loaded. Raises VoiceError."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", MODULE, str(directory), str(threads), stdin=pipe, stdout=pipe, stderr=pipe,
                env={**environ, "PYTHONPATH": ROOT, "ORT_DISABLE_TELEMETRY": "1"}, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise VoiceError(f"The speech recognition cannot be started: {error.strerror}.", STEP) from error
        child = cls(process)
        try:
            await child._answer(0, child._ready, START)
        except AnswerError as error:
            await child.kill(str(error))
            raise VoiceError(
                f"The speech recognition's model does not load: {error}", "delete its directory, then run: make setup"
            ) from error
        except BaseException:
            await child.kill("it was not wanted any more")
            raise
        return child

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def ask(self, limit: float, **message: Any) -> Message:
        """One request and its answer.

        Args:
            limit: Seconds; it is killed after them.
            message: The request.

        Raises:
            EndedError: It ended meanwhile; VoiceError: it did not answer, or was ended here; AnswerError: what it answered.
        """
        number = next(self._numbers)
        answer = self._expect(number)
        try:
            await self._send({"id": number, **message})
            return await self._answer(number, answer, limit)
        except asyncio.CancelledError:
            with contextlib.suppress(VoiceError):  # it is gone: nothing to stop
                await self._send({"id": 0, "op": "stop", "target": number})
            raise

    def _expect(self, number: int) -> asyncio.Future[Message]:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        return answer

    async def _send(self, message: Message) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        if self.gone:
            raise self._ended()
        pipe.write(wire.pack(message))  # never waits: what a hung process does not read ends with it, at the deadline

    async def _answer(self, number: int, answer: asyncio.Future[Message], limit: float) -> Message:
        try:
            async with asyncio.timeout(limit):
                told = await answer
        except TimeoutError:
            await self.kill(f"it did not answer within {limit:.3g} s")
            raise VoiceError(f"The speech recognition did not answer within {limit:.3g} s.", STEP) from None
        finally:
            self._waiting.pop(number, None)
        if "error" in told:
            raise AnswerError(told["kind"], told["error"])
        return dict(told["ok"])

    def _ended(self) -> VoiceError:
        lines = self._tail.decode(errors="replace").strip().splitlines()
        status = self._process.returncode
        why = self._why or (
            lines[-1][:200] if lines else f"exit status {status}" if status is not None else "it closed its output"
        )
        return (VoiceError if self._why else EndedError)(f"The speech recognition ended: {why}.", STEP)

    async def kill(self, why: str = "") -> None:
        """End it, whatever it does."""
        self.gone, self._why = True, self._why or why
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, 9)
        try:
            async with asyncio.timeout(REAP):
                await self._process.wait()
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            log.error("the speech recognition's process %d hangs in the kernel and cannot be ended", self.pid)
            for task in self._tasks:
                task.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        try:
            while True:
                length = int.from_bytes(await pipe.readexactly(wire.LENGTH), "big")
                message = wire.unpack(await pipe.readexactly(min(length, wire.LARGEST)))
                answer = self._waiting.get(message["id"])
                if answer is not None and not answer.done():
                    answer.set_result(message)
        except (asyncio.IncompleteReadError, OSError) as error:
            log.debug("the speech recognition's process is gone: %s", error)
        except (msgspec.MsgspecError, KeyError) as error:
            log.error("what the speech recognition's process says cannot be read: %s", error)
            self._why = "what it said cannot be read"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, 9)
        self.gone = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self._ended())

    async def _read_errors(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        while data := await pipe.read(4096):
            self._tail = (self._tail + data)[-TAIL:]
