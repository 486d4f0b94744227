"""Ways to look at things that may hang: threads that nobody waits for at the end, and child processes with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps

from appliance.core.doctor.model import DoctorContext
from appliance.core.model import CheckResult

REAP_SECONDS = 1.0
"""How long a killed child is waited for; one that hangs in the kernel stays behind."""


@dataclass(frozen=True)
class Output:
    """What a command said.

    Attributes:
        code: Exit status, negative for a signal; None where it did not start or did not end in time.
        out: Its standard output, stripped.
        problem: Why there is no good exit: "not installed", "no answer within 3 s", or what it wrote on standard error.
    """

    code: int | None
    out: str
    problem: str

    @property
    def good(self) -> bool:
        """Whether it ended with status 0."""
        return self.code == 0

    @property
    def hung(self) -> bool:
        """Whether it was killed at the time limit."""
        return self.problem.startswith("no answer")


async def run(argv: Sequence[str], environ: Mapping[str, str], limit: float = 3.0) -> Output:
    """Run a command in a process group of its own, and kill that at the time limit.

    Args:
        argv: The command, looked up in the environment's PATH.
        environ: Its environment variables.
        limit: Seconds.
    """
    program = shutil.which(argv[0], path=environ.get("PATH"))
    if program is None:
        return Output(None, "", "not installed")
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        program,
        *argv[1:],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        env=dict(environ),
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), limit)
    except TimeoutError:
        return Output(None, "", f"no answer within {limit:g} s")
    finally:
        await _end(child)
    problem = "" if child.returncode == 0 else _last_line(err) or f"exit status {child.returncode}"
    return Output(child.returncode, out.decode(errors="replace").strip(), problem)


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), REAP_SECONDS)


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def in_thread(look: Callable[[DoctorContext], CheckResult]) -> Callable[[DoctorContext], Awaitable[CheckResult]]:
    """Make a blocking check one that the loop can await.

    The thread is a daemon: one that hangs in the kernel keeps neither the loop nor the process from ending.
    """

    @wraps(look)
    async def awaitable(context: DoctorContext) -> CheckResult:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[CheckResult] = loop.create_future()

        def settle(result: CheckResult | None, error: Exception | None) -> None:
            if future.done():
                return
            if result is not None:
                future.set_result(result)
            elif error is not None:
                future.set_exception(error)

        def work() -> None:
            try:
                answer: tuple[CheckResult | None, Exception | None] = (look(context), None)
            except Exception as error:  # noqa: BLE001 - raised again where the check is awaited
                answer = (None, error)
            with contextlib.suppress(RuntimeError):  # the loop ended while this hung
                loop.call_soon_threadsafe(settle, *answer)

        threading.Thread(target=work, name=f"doctor-{look.__module__.rpartition('.')[2]}", daemon=True).start()
        return await future

    return awaitable
