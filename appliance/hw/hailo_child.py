"""The child process that holds the Hailo, seen from the appliance: started, asked, and killed where it does not answer."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.errors import DeviceError, DeviceStalledError
from appliance.hw import hailo_faults

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("hailo_worker.py")
MESSAGE = 1 << 16
"""Bytes of the longest message."""
START = 20.0
"""Seconds for the interpreter and the vendor's package to come up."""
LATE = 0.001
"""Seconds by which a new limit must be later than the old one to count."""
REAP = 1.0
"""Seconds that a killed child is waited for; one that hangs in the kernel stays behind."""
TAIL = 2000
"""Bytes of its standard error that are kept."""


class Child:
    """One run of the worker.

    Args:
        python: Interpreter that has the vendor's package.
        environ: Environment variables.
        on_notice: Called, in a thread, with the name and the facts of each notification of the device.
    """

    def __init__(self, python: str, environ: Mapping[str, str], on_notice: Callable[[str, dict[str, Any]], None]) -> None:
        self._on_notice = on_notice
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._hello: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._tail = b""
        self._slow = 0
        """Requests under way during which the worker may be deaf: the library holds the interpreter's lock while it loads."""
        self._heard = 0.0
        """When the last of them ended, monotonic: from then on others have their time."""
        self.gone = False
        self._stalled: DeviceStalledError | None = None
        """Why it was killed."""
        self._garbled = ""
        """What it said that nobody understands."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sock = ours
        lifeline, held = os.pipe()
        self._held = os.fdopen(held, "wb", 0)
        """Closed, the worker ends: by `kill`, or by the kernel when this process ends in whatever way."""
        try:
            self._process = subprocess.Popen(  # noqa: S603 the interpreter that the settings name, and our own file
                [python, "-u", str(WORKER), str(theirs.fileno()), str(lifeline)],
                pass_fds=(theirs.fileno(), lifeline),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**environ, "HAILO_MONITOR": "1", "HAILORT_LOGGER_PATH": environ.get("HAILORT_LOGGER_PATH", "NONE")},
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            self._held.close()
            raise DeviceError(
                f"{python} cannot be run: {error.strerror}.", "set hailo.python to a Python that is there."
            ) from error
        finally:
            theirs.close()
            os.close(lifeline)
        self.pid = self._process.pid
        threading.Thread(target=self._read, name="hailo-answers", daemon=True).start()
        threading.Thread(target=self._read_errors, name="hailo-errors", daemon=True).start()

    @property
    def deaf(self) -> bool:
        """It may not answer now though all is well: it loads something."""
        return self._slow > 0

    def number(self) -> int:
        """One that was not given before, for models and memory."""
        return next(self._numbers)

    def hello(self) -> dict[str, Any]:
        """What the worker said when it came up. Raises DeviceError."""
        try:
            told = self._hello.get(timeout=START)
        except queue.Empty:
            self.kill()
            raise DeviceStalledError(
                f"The vendor's package did not load within {START:g} s.", "see: sudo dmesg | grep -i hailo"
            ) from None
        if "gone" in told:
            raise DeviceError(
                f"The Hailo's process ended at once: {self.last_words()}.", "try: python3 -c 'import hailo_platform'"
            )
        return told

    def ask(self, op: str, limit: float, fds: Sequence[int] = (), *, slow: bool = False, **fields: Any) -> dict[str, Any]:
        """One request and its answer.

        Args:
            op: What to do.
            limit: Seconds; the child is killed after them.
            fds: File descriptors that go with it.
            slow: Others may have to wait for this one.
            fields: The request's arguments.

        Raises:
            DeviceStalledError: No answer; the child was killed.
            DeviceError, ModelError: What the worker answered.
        """
        number, answer = self.number(), queue.SimpleQueue[dict[str, Any]]()
        self._waiting[number] = answer
        try:
            with self._counted(slow):
                self._send(json.dumps({"id": number, "op": op, **fields}).encode(), fds)
                told = self._await(answer, op, limit, slow=slow)
        finally:
            self._waiting.pop(number, None)
        if "error" in told:
            raise hailo_faults.from_worker(op, told)
        return told

    @contextlib.contextmanager
    def _counted(self, slow: bool) -> Any:
        with self._lock:
            self._slow += slow
        try:
            yield
        finally:
            with self._lock:
                self._slow -= slow
                self._heard = time.monotonic() if slow else self._heard

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        try:
            with self._lock:
                socket.send_fds(self._sock, [message], list(fds))
        except OSError as error:
            raise self.ended() from error
        if self.gone:
            raise self.ended()

    def _await(self, answer: queue.SimpleQueue[dict[str, Any]], op: str, limit: float, *, slow: bool) -> dict[str, Any]:
        ends = time.monotonic() + limit
        while True:
            try:
                told = answer.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                with self._lock:
                    since = time.monotonic() if self._slow else self._heard
                if not slow and since + limit > ends + LATE:  # what it loads has a limit of its own
                    ends = since + limit
                    continue
                self._stalled = DeviceStalledError(
                    f"The Hailo did not answer within {limit:g} s ({op}).",
                    "it is reset by itself; if it goes on, restart the machine.",
                )
                self.kill()
                raise self._stalled from None
            if "gone" in told:
                raise self.ended()
            return told

    def ended(self) -> DeviceError:
        """What everybody else who waits is told: that it was killed because it stalled, or how it ended."""
        if self._stalled is not None:
            return DeviceStalledError(self._stalled.message, self._stalled.next_step)
        if self._garbled:
            return DeviceError(
                f"The Hailo's process said what cannot be read: {self._garbled}.", "it is started again by itself."
            )
        return DeviceError(
            f"The Hailo's process ended: {self.last_words()}.", "it is started again by itself; see: sudo dmesg | grep -i hailo"
        )

    def last_words(self) -> str:
        """The last line that it wrote, or how it ended."""
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"exit status {self._process.poll()}"

    def kill(self) -> None:
        """End it, whatever it does."""
        self.gone = True
        self._held.close()
        if self._process.poll() is None:  # else the number may be another's by now
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, 9)
        try:
            self._process.wait(REAP)
        except subprocess.TimeoutExpired:
            log.error("the Hailo's process %d hangs in the kernel and cannot be ended; restart the machine", self.pid)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        with self._sock as sock:
            try:
                while data := sock.recv(MESSAGE):
                    self._take(json.loads(data))
            except OSError as error:
                log.debug("the Hailo's process is gone: %s", error)
            except Exception as error:
                log.exception("the Hailo's process is ended: what it says cannot be read")
                self._garbled = type(error).__name__
                self.kill()
        self.gone = True
        self._held.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(REAP)
        self._hello.put({"gone": True})
        for answer in list(self._waiting.values()):
            answer.put({"gone": True})

    def _take(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "hello":
            self._hello.put(message)
        elif event == "notice":
            self._on_notice(message["name"], message["facts"])
        elif event == "note":
            log.info("the Hailo's process: %s", message["text"])
        elif (answer := self._waiting.get(message["id"])) is not None:
            answer.put(message)

    def _read_errors(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None
        with pipe:
            while data := os.read(pipe.fileno(), 4096):
                self._tail = (self._tail + data)[-TAIL:]
