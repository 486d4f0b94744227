"""The process that holds PortAudio, seen from the appliance: started, asked, and killed where it does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appliance.errors import AbsentError, DeviceError, DeviceStalledError
from appliance.hw.sound import choice

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("worker.py")
MESSAGE = 1 << 16
"""Bytes of the longest message."""
START = 15.0
"""Seconds for it to come up and to open the device."""
REAP = 1.0
"""Seconds that a killed child is waited for; one that hangs in the kernel stays behind."""
TAIL = 2000
"""Bytes of its standard error that are kept."""


class Child:
    """One run of the worker. Made by `start`.

    Args:
        process: The process.
        sock: To it, for requests and sound.
        urgent: To it, for what must not wait behind sound.
        held: Closed, it ends: by `close`, or by the kernel when this process ends in whatever way.
    """

    def __init__(self, process: asyncio.subprocess.Process, sock: socket.socket, urgent: socket.socket, held: int) -> None:
        self._process, self._sock, self._urgent, self._held = process, sock, urgent, held
        self._tail = b""
        self._errors = asyncio.create_task(self._read_errors(), name="sound-errors")
        self._busy: set[asyncio.Event] = set()
        """Of each coroutine that waits at the socket, which must not be closed under it."""
        self.pid = process.pid
        self.closed = False

    @classmethod
    async def start(cls, environ: Mapping[str, str], order: dict[str, Any]) -> Child:
        """Start it with an order; the first thing it says is to be had from `receive`. Raises DeviceError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        urgent, theirs_urgent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline, held = os.pipe()
        fds = (theirs.fileno(), theirs_urgent.fileno(), lifeline)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", str(WORKER), *map(str, fds), json.dumps(order),
                pass_fds=fds, env=dict(environ), start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except BaseException as error:
            ours.close()
            urgent.close()
            os.close(held)
            if isinstance(error, OSError):
                text = f"The sound process cannot be started: {error.strerror}."
                raise DeviceError(text, "see: prime-spark doctor python") from error
            raise
        finally:
            theirs.close()
            theirs_urgent.close()
            os.close(lifeline)
        ours.setblocking(False)
        urgent.setblocking(False)
        return cls(process, ours, urgent, held)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return not self.closed and self._process.returncode is None

    async def receive(self, limit: float) -> bytes:
        """Its next message.

        Args:
            limit: Seconds; it is killed after them.

        Raises:
            DeviceStalledError: It did not say anything.
            AbsentError, DeviceError: What it told as trouble, or it has ended.
        """
        try:
            async with asyncio.timeout(limit):
                with self._counted():
                    data = await self._recv()
        except TimeoutError:
            await self.close()
            raise DeviceStalledError(
                f"The sound process did not answer within {limit:g} s; it was killed.",
                "it is started again by itself; if it goes on, plug the sound device in again.",
            ) from None
        except OSError:
            data = b""
        if not data:
            raise await self._ended()
        if data.startswith(b'{"event": "trouble"'):
            told = json.loads(data)
            await self.close()
            raise (AbsentError if told["absent"] else DeviceError)(told["text"], told["next_step"])
        return data

    async def _recv(self) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            return await loop.sock_recv(self._sock, MESSAGE)
        except ConnectionResetError:  # it ended with sound unread: once told, what it said last can be had
            return await loop.sock_recv(self._sock, MESSAGE)

    async def event(self, limit: float) -> dict[str, Any]:
        """Its next message, which is no sound. Raises as `receive`."""
        told: dict[str, Any] = json.loads(await self.receive(limit))
        return told

    async def send(self, data: bytes) -> None:
        """Send it something, once there is room. Raises DeviceError where it has ended."""
        try:
            with self._counted():
                await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except OSError as error:  # what it said last is still to be received
            raise DeviceError("The sound process has ended.", "it is started again by itself.") from error

    def post(self, **order: Any) -> None:
        """Tell it something now, past all sound. Where it has ended, or is deaf, whoever receives will be told."""
        with contextlib.suppress(OSError):
            self._urgent.send(json.dumps(order).encode())

    async def close(self) -> None:
        """End it, whatever it does."""
        if self.closed:
            return
        self.closed = True
        os.close(self._held)
        if self._process.returncode is None:  # else the number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # whoever waits there is woken
        try:
            await asyncio.wait_for(self._process.wait(), REAP)
            for left in list(self._busy):
                await left.wait()
        except TimeoutError:
            log.error("the sound process %d hangs in the kernel and cannot be ended; restart the machine", self.pid)
        finally:
            self._errors.cancel()
            self._sock.close()
            self._urgent.close()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        left = asyncio.Event()
        self._busy.add(left)
        try:
            yield
        finally:
            left.set()
            self._busy.discard(left)

    async def _ended(self) -> DeviceError:
        if self.closed:
            return DeviceError("The sound device was closed.", "it is opened again when it is wanted.")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._errors), REAP)
            await asyncio.wait_for(self._process.wait(), REAP)
        code = self._process.returncode
        await self.close()
        if code is not None and code < 0 and code != -signal.SIGKILL:
            name = signal.Signals(-code).name
            return DeviceError(
                f"The sound system's configuration is broken: PortAudio ended its process ({name}).", choice.BROKEN
            )
        lines = self._tail.decode(errors="replace").strip().splitlines()
        why = lines[-1][:200] if lines and code != -signal.SIGKILL else f"exit status {code}"
        return DeviceError(f"The sound process ended: {why}.", "it is started again by itself.")

    async def _read_errors(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        while data := await pipe.read(4096):
            self._tail = (self._tail + data)[-TAIL:]
