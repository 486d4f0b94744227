"""Takes the steps of a plan: on the sources, the outbox, the services, other machines, and this one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from appliance.core.figures import counted
from appliance.core.inference.sources.model import SourceStatus
from appliance.core.ports import Host, RemoteShell
from appliance.core.power.plan import Step
from appliance.errors import AbsentError, ApplianceError, NotFoundError, PlanError, ShellError, UnreachableError

log = logging.getLogger(__name__)

POWEROFF = ("sudo", "-n", "systemctl", "poweroff")
"""What powers another machine down, where the plan says nothing else."""
LOOK = 0.5
"""Seconds between two looks at the outbox while it drains."""
FLUSH = 5.0
"""Seconds that the memory may take to get to the disk before a halt: a disk that fails or hangs keeps no machine from it."""
OUTPUT = 500
"""Most characters that are told of what a command said."""


def _environment() -> dict[str, str]:
    """What an own command gets: no secret that the appliance was started with."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


class Sources(Protocol):
    """What is needed of the sources of frames."""

    def statuses(self) -> tuple[SourceStatus, ...]:
        """How each is."""

    async def switch(self, name: str, *, enabled: bool) -> SourceStatus:
        """Start or stop one. Raises NotFoundError, StoreError."""


class Services(Protocol):
    """What is needed of the supervisor."""

    def running(self) -> Sequence[str]:
        """Names of the services that run."""

    def names(self) -> Sequence[str]:
        """Names of all."""

    async def halt(self, name: str) -> object:
        """Stop one. Raises NotFoundError, ConflictError."""

    async def restart(self, name: str) -> object:
        """Start one again. Raises NotFoundError, ConflictError."""


class Tools:
    """What the hands work with.

    Args:
        sources: Of frames.
        waiting: How many events wait for the cloud. Raises AbsentError where there is no cloud, StoreError.
        flush: Brings to disk what is only in memory. Raises ApplianceError.
        shell: Reaches other machines.
        host: This machine.
        may_halt: Why this machine must not be halted at this moment; empty where it may.
    """

    def __init__(
        self,
        sources: Sources,
        waiting: Callable[[], Awaitable[int]],
        flush: Callable[[], Awaitable[None]],
        shell: RemoteShell,
        host: Host,
    ) -> None:
        self.sources, self.waiting, self.flush, self.shell, self.host = sources, waiting, flush, shell, host
        self.services: Services | None = None
        """Given when they are all made."""
        self.may_halt: Callable[[], str] = lambda: ""


class PlanHands:
    """Implements runner.Hands.

    Args:
        tools: To work with.
    """

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.shed = False
        """Load is shed: inference saves power."""
        self._brought = False
        """The memory was brought to the disk for a halt, or that was tried."""

    def touches(self, step: Step) -> tuple[str, ...]:
        """What a step would change now."""
        if step.do == "shed-inference":
            return tuple(each.name for each in self.tools.sources.statuses() if each.enabled and each.name not in step.keep)
        if step.do == "stop-services":
            running = self._services.running()
            return tuple(name for name in step.names if name in running)
        return (step.node,) if step.do == "power-down" else ()

    async def do(self, step: Step, touched: tuple[str, ...]) -> str:
        """Take a step. Raises ApplianceError."""
        ways: Mapping[str, Callable[[], Awaitable[str]]] = {
            "shed-inference": lambda: self._shed(touched), "drain-outbox": self._drain,
            "stop-services": lambda: self._stop(touched), "power-down": lambda: self._power_down(step),
            "run": lambda: self._run(step.command), "halt": self._halt,
        }  # fmt: skip
        return await ways[step.do]()

    async def undo(self, do: str, touched: tuple[str, ...]) -> str:
        """Take a step back; says what is left over. Raises ApplianceError."""
        if do == "shed-inference":
            self.shed = False
            await self._each(touched, lambda name: self.tools.sources.switch(name, enabled=True))
        elif do == "stop-services":
            running = self._services.running()
            await self._each(tuple(name for name in reversed(touched) if name not in running), self._services.restart)
        elif do == "power-down":
            return f"{', '.join(touched)} was powered down: switch it on by hand (nothing here wakes it)"
        elif do == "halt":
            self._brought = False
        elif do == "run":
            return "the plan's own command was run, and nothing takes it back"
        return ""

    # -- the steps

    async def _shed(self, names: tuple[str, ...]) -> str:
        self.shed = True
        await self._each(names, lambda name: self.tools.sources.switch(name, enabled=False))
        return f"inference saves power; {counted(len(names), 'source')} stopped"

    async def _drain(self) -> str:
        """Wait until nothing waits for the cloud; the disk has it all in any case."""
        await self.tools.flush()
        before = waiting = await self.tools.waiting()
        while waiting:
            await asyncio.sleep(LOOK)
            waiting = await self.tools.waiting()
        return f"{counted(before, 'event')} went out; nothing waits"

    async def _stop(self, names: tuple[str, ...]) -> str:
        if not names:
            raise AbsentError("none of them runs")
        await self._each(names, self._services.halt)
        return f"{', '.join(names)} stopped"

    async def _power_down(self, step: Step) -> str:
        """A machine that goes down may cut us off: that is what was asked for."""
        command = step.command or POWEROFF
        if step.node not in self.tools.shell.nodes():
            raise PlanError(f"There is no machine {step.node!r} any more.", "add it as [fleet.nodes.NAME], or change the plan.")
        try:
            ran = await self.tools.shell.run(step.node, command)
        except UnreachableError:
            raise
        except ShellError as error:
            return f"{step.node} was told; how that ended is not known: {error.message}"
        if ran.exit_status:
            said = ran.stderr.decode(errors="replace").strip()[:OUTPUT]
            raise ShellError(f"{step.node} refuses: {said or f'exit status {ran.exit_status}'}", "let this user power it down.")
        return f"{step.node} was told to power down"

    async def _run(self, command: Sequence[str]) -> str:
        """A program of the operator's, here; ended where its stage ends before it."""
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            child = await asyncio.create_subprocess_exec(*command, stdin=none, stdout=none, stderr=pipe, env=_environment())
        except OSError as error:
            raise ApplianceError(
                f"{command[0]} cannot be run: {error.strerror}.", "write its whole path in the plan."
            ) from error
        try:
            _, said = await child.communicate()
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if child.returncode:
            text = said.decode(errors="replace").strip()[-OUTPUT:]
            raise ApplianceError(f"{command[0]} ended with {child.returncode}: {text or 'it said nothing'}.", "mend it.")
        return f"{command[0]} ended well"

    async def _halt(self) -> str:
        while why := self.tools.may_halt():
            log.warning("this machine is not halted yet: %s", why)
            await asyncio.sleep(LOOK)
        unsaved = await self._bring()
        return await self.tools.host.halt() + (f"; {unsaved}" if unsaved else "")

    async def _bring(self) -> str:
        """Bring to disk what is only in memory, once before a halt; says what did not get there."""
        if self._brought:
            return ""
        self._brought = True
        try:
            async with asyncio.timeout(FLUSH):
                await self.tools.flush()
        except (ApplianceError, TimeoutError) as error:
            unsaved = f"not all of the memory is on the disk: {str(error) or f'no answer within {FLUSH:g} s'}"
            log.error("before the halt: %s", unsaved)
            return unsaved
        return ""

    async def _each(self, names: Sequence[str], work: Callable[[str], Awaitable[object]]) -> None:
        """For every name; the errors of some keep no other from it, and are told together. Raises ApplianceError."""
        faults = []
        for name in names:
            try:
                await work(name)
            except NotFoundError:
                log.info("%s is not there any more", name)
            except ApplianceError as error:
                faults.append(f"{name}: {error.message}")
        if faults:
            raise ApplianceError("; ".join(faults), "see the log.")

    @property
    def _services(self) -> Services:
        if self.tools.services is None:
            raise AbsentError("the services are not there yet")
        return self.tools.services
