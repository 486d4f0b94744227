"""One node, as an operation works on it: scripts for its POSIX shell, quoted safely, in the C locale."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.fleet.files.places import Places
from appliance.core.fleet.model import FleetShell, Node
from appliance.core.fleet.operations.outputs import Output
from appliance.core.printable import printable
from appliance.errors import CommandFailedError

if TYPE_CHECKING:
    from appliance.core.agents.depot import Depot

PREAMBLE = 'LC_ALL=C; LANG=C; PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; export LC_ALL LANG PATH\n'
"""Before every script: messages that can be parsed, and the administrator's programs behind the user's own path."""
SHOWN = 400
"""Characters of a complaint that go into a reason."""


class Said(msgspec.Struct, frozen=True):
    """What a script came to."""

    exit_status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """Its last words, on one line."""
        lines = [line.strip() for line in (self.err.strip() or self.out.strip()).splitlines() if line.strip()]
        return printable(" / ".join(lines[-3:]))[-SHOWN:] or f"exit status {self.exit_status}, and no word"


class Host:
    """A node and what an operation may do there.

    Args:
        shell: Reaches it.
        node: Its entry in the inventory.
        limit: Seconds that a command may take where nothing else is said.
        output: Takes what is said; None while it is only looked at.
        fresh: Logs in on a connection of its own, to show that this still works. Raises ShellError.
        spoke: Called when there is more output.
        planning: It is looked at for a new plan.
        places: Which files of this machine may be copied.
    """

    def __init__(
        self,
        shell: FleetShell,
        node: Node,
        limit: float,
        output: Output | None = None,
        fresh: Callable[[str], Awaitable[None]] | None = None,
        spoke: Callable[[], None] = lambda: None,
        *,
        planning: bool = False,
        places: Places | None = None,
    ) -> None:
        self.shell = shell
        self.node = node
        self.limit = limit
        self.output = output
        self.planning = planning
        """It is looked at for a new plan; else a plan is compared, or carried out."""
        self.places = places
        self.agents: Callable[[], Depot] | None = None
        """What agents are installed from."""
        self.acted = False
        """A command that may have changed something was begun."""
        self._fresh = fresh
        self._spoke = spoke

    @property
    def name(self) -> str:
        """The node's."""
        return self.node.name

    def say(self, line: str) -> None:
        """Add a line of our own to the output."""
        if self.output is not None:
            self.output.say(line)
            self._spoke()

    async def sh(
        self, script: str, *arguments: str, sudo: bool = False, limit: float | None = None, stdin: bytes = b""
    ) -> Said:
        """Run a script that only reads; `arguments` are its $1, $2, … Raises ShellError."""
        command = ["sh", "-c", PREAMBLE + script, "sh", *arguments]
        ran = await self.shell.run(self.name, command, stdin=stdin, limit=limit or self.limit, sudo=sudo)
        return Said(ran.exit_status, ran.stdout.decode("utf-8", "replace"), ran.stderr.decode("utf-8", "replace"))

    async def read(self, script: str, *arguments: str, sudo: bool = False, limit: float | None = None) -> str:
        """Run a script that only reads, and must do well. Raises ShellError, CommandFailedError."""
        said = await self.sh(script, *arguments, sudo=sudo, limit=limit)
        if said.exit_status:
            raise self.failed(said.complaint, said.exit_status)
        return said.out

    async def do(
        self, script: str, *arguments: str, sudo: bool = False, limit: float | None = None, stdin: bytes = b""
    ) -> None:
        """Run a script that changes something, and must do well. Raises ShellError, CommandFailedError."""
        tail = Output(10_000)

        def take(stream: str, data: bytes) -> None:
            tail.add(stream, data)
            self._take(stream, data)

        status = await self._stream(PREAMBLE + script, arguments, take, sudo, limit, stdin)
        if status:
            tail.end()
            said = Said(status, tail.read("", max(0, tail.size - SHOWN), SHOWN).text, "")
            raise self.failed(said.complaint, status)

    async def live(self, script: str, *arguments: str, sudo: bool = False, limit: float | None = None) -> int:
        """Run as it is, its output handed on; its exit status. Raises ShellError."""
        return await self._stream(script, arguments, self._take, sudo, limit, b"")

    async def fresh_login(self) -> str:
        """Why a new connection does not work; empty where it does."""
        if self._fresh is None:
            return ""
        from appliance.errors import ShellError

        try:
            await self._fresh(self.name)
        except ShellError as error:
            return error.message
        return ""

    def failed(self, why: str, exit_status: int | None = None, next_step: str = "") -> CommandFailedError:
        """The error of something that did not do well here."""
        return CommandFailedError(f"{self.name}: {why}", next_step or "see its output.", exit_status)

    async def _stream(
        self, script: str, arguments: tuple[str, ...], take: Any, sudo: bool, limit: float | None, stdin: bytes
    ) -> int:
        command = ["sh", "-c", script, "sh", *arguments]
        status = await self.shell.stream(self.name, command, take, stdin=stdin, limit=limit or self.limit, sudo=sudo)
        self.acted = True
        return status

    def _take(self, stream: str, data: bytes) -> None:
        if self.output is not None:
            self.output.add(stream, data)
            self._spoke()
