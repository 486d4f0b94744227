"""The task type command: one of the programs that the settings allow, without a shell, with bounded time and output."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import Mapping
from typing import Any

from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.wire import Order
from appliance.errors import InvalidArgumentsError, NotAuthorizedError, TaskError
from appliance.settingtasks import CommandTask

log = logging.getLogger(__name__)

OUTPUT = 64 * 1024
"""Bytes of each stream that are kept: the first ones; the rest is read and counted."""
ENDS = 3.0
"""Seconds between SIGTERM and SIGKILL."""
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "HOME", "TZ")


class Command(Form, frozen=True, kw_only=True):
    """Which program, and what is added to its arguments."""

    command: str
    arguments: tuple[str, ...] = ()


class CommandHandler:
    """Runs allowed programs (implements executor.Handler).

    Args:
        allowed: By name.
    """

    name = "command"
    summary = "Run one of the programs that tasks.commands allows"

    def __init__(self, allowed: Mapping[str, CommandTask]) -> None:
        self._allowed = allowed

    def available(self) -> bool:
        """See executor.Handler."""
        return bool(self._allowed)

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        del order
        wanted = read(Command, payload, self.name)
        allowed = self._check(wanted)
        command = [str(allowed.program), *allowed.arguments, *wanted.arguments]
        environment = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            step = f"look at tasks.commands.{wanted.command}.program."
            raise TaskError(f"{allowed.program} cannot be run: {error.strerror}.", step, final=True) from error
        try:
            async with asyncio.timeout(allowed.limit_seconds):
                return await _answer(process, wanted.command)
        except TimeoutError as error:
            raise TaskError(f"{wanted.command} took longer than {allowed.limit_seconds:g} s and was ended.") from error
        finally:
            await _end(process)

    def _check(self, wanted: Command) -> CommandTask:
        """Raises NotAuthorizedError, InvalidArgumentsError."""
        allowed = self._allowed.get(wanted.command)
        if allowed is None:
            known = ", ".join(sorted(self._allowed)) or "none"
            raise NotAuthorizedError(f"No command {wanted.command[:60]!r} is allowed here.", f"allowed are: {known}.")
        if len(wanted.arguments) > allowed.extra:
            step = f"raise tasks.commands.{wanted.command}.extra."
            raise InvalidArgumentsError(f"{wanted.command} takes {allowed.extra} further arguments at most.", step)
        for argument in wanted.arguments:
            if "\0" in argument or re.fullmatch(allowed.pattern, argument) is None:
                step = f"see tasks.commands.{wanted.command}.pattern."
                raise InvalidArgumentsError(f"The argument {argument[:60]!r} is not allowed for {wanted.command}.", step)
        return allowed


async def _answer(process: asyncio.subprocess.Process, name: str) -> dict[str, Any]:
    """What it says and how it ends. Raises TaskError where that is no 0."""
    assert process.stdout is not None
    assert process.stderr is not None
    (out, out_left), (err, err_left) = await asyncio.gather(_take(process.stdout), _take(process.stderr))
    status = await process.wait()
    if status:
        said = err.strip() or out.strip()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
        raise TaskError(f"{name} {how}{': ' if said else '.'}{said[-500:]}")
    return {"exit_status": status, "stdout": out, "stderr": err, "left_out_bytes": out_left + err_left}


async def _take(stream: asyncio.StreamReader) -> tuple[str, int]:
    """(the first part as text, bytes that were left out)."""
    kept, left = bytearray(), 0
    while piece := await stream.read(65536):
        room = OUTPUT - len(kept)
        kept += piece[:room]
        left += max(0, len(piece) - room)
    return kept.decode(errors="replace"), left


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it with all that it started."""
    for number, patience in ((signal.SIGTERM, ENDS), (signal.SIGKILL, ENDS)):
        if process.returncode is not None and number is signal.SIGTERM:
            number = signal.SIGKILL  # noqa: PLW2901 its children may live on
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        if process.returncode is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await process.wait()
    if process.returncode is None:
        log.error("process %d does not end", process.pid)
