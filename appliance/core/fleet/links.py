"""Everything that is done on other machines, over one connection to each (implements model.FleetShell)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from appliance.core.clock import SystemClock
from appliance.core.fleet import link_sudo
from appliance.core.fleet.keys import OwnKey
from appliance.core.fleet.link import Link, Live
from appliance.core.fleet.link_commands import wrap
from appliance.core.fleet.link_files import SftpFiles
from appliance.core.fleet.link_login import Logins
from appliance.core.fleet.link_pace import OUTPUT_LIMIT, Pace
from appliance.core.fleet.link_process import Kept, Running, reason_of
from appliance.core.fleet.link_terminal import SshTerminal
from appliance.core.fleet.model import Inventory, LinkStatus, Node, Output
from appliance.core.ports import Clock
from appliance.core.secrets import Secrets
from appliance.errors import NotFoundError, ShellError, UnreachableError

Made = TypeVar("Made")
REFUSALS = 6
"""How often a session is asked for again while we have no other: a server frees an ended one a moment later."""
OPENING_LIMIT = 30.0
"""Seconds to get a terminal, or the files."""


@dataclass(frozen=True)
class Answer:
    """What a command came to (implements ports.Ran)."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Links:
    """One connection to each machine of the inventory, opened where it is first wanted.

    Args:
        inventory: The machines.
        own: The appliance's own key, made where it is first needed.
        secrets: Has the passwords for sudo; None where there are none.
        logins: Logs in; None for a plain one.
        pace: How patient.
        clock: Of the instants in the links' status; None for the machine's.
    """

    def __init__(
        self,
        inventory: Inventory,
        own: OwnKey,
        secrets: Secrets | None = None,
        *,
        logins: Logins | None = None,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._inventory, self._secrets = inventory, secrets
        self._pace = pace or (logins.pace if logins else Pace())
        self._logins = logins or Logins(own, self._pace)
        self._logins.over = self._over
        self._links: dict[str, Link] = {}
        self._watchers: list[Callable[[str, LinkStatus], None]] = []

    def watch(self, watcher: Callable[[str, LinkStatus], None]) -> None:
        """Call this with a node's name and its link's status after each change of how it is reached."""
        self._watchers.append(watcher)

    def nodes(self) -> Sequence[str]:
        """Names, by name."""
        return tuple(each.name for each in self._inventory.all())

    def node(self, name: str) -> Node:
        """See model.FleetShell."""
        return self._inventory.get(name)

    def link(self, node: str) -> LinkStatus:
        """See model.FleetShell."""
        return self._link(node).status()

    def due(self, node: str) -> bool:
        """See model.FleetShell."""
        return self._link(node).due()

    def off(self, node: str, reason: str) -> None:
        """See model.FleetShell."""
        self._link(node).off(reason)

    def refresh(self) -> None:
        """The inventory has changed: entries are taken over, links of machines that are gone are let go."""
        known = {each.name: each for each in self._inventory.all()}
        for name in [each for each in self._links if each not in known]:
            self._links.pop(name).drop()
        for name, link in self._links.items():
            link.entry(known[name])

    async def run(
        self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0, sudo: bool = False
    ) -> Answer:
        """See model.FleetShell; the command speaks the C locale."""
        kept = Kept(node)
        try:
            status = await self._carry(node, command, kept.take, stdin, limit, sudo=sudo, most=OUTPUT_LIMIT, plain=True)
        except TimeoutError:
            message = f"{node} did not end {command[0]} within {limit:g} s; it may go on there."
            raise ShellError(message, "look on that machine what became of it.") from None
        return Answer(status, kept.all("stdout"), kept.all("stderr"))

    async def stream(
        self, node: str, command: Sequence[str], output: Output, *, stdin: bytes = b"", limit: float | None = None,
        sudo: bool = False, most: int | None = None,
    ) -> int:  # fmt: skip
        """See model.FleetShell; the command speaks the locale of the login."""
        try:
            return await self._carry(node, command, output, stdin, limit, sudo=sudo, most=most, plain=False)
        except TimeoutError:
            message = f"{node} did not end {command[0]} within {limit:g} s; it was told to end."
            raise ShellError(message, "look on that machine what became of it.") from None

    async def _carry(
        self, name: str, command: Sequence[str], output: Output, stdin: bytes, limit: float | None, *,
        sudo: bool, most: int | None, plain: bool,
    ) -> int:  # fmt: skip
        """Run a command. Raises TimeoutError where it may have run."""
        link = self._link(name)
        way = link_sudo.way(link.node, sudo)
        password = await asyncio.to_thread(link_sudo.password, link.node, self._secrets) if way == "password" else b""
        wrapped = wrap(command, sudo=way, plain=plain)
        ends = None if limit is None else time.monotonic() + limit

        async def start(connection: Any) -> Any:
            return await connection.create_process(wrapped.line, encoding=None)

        live, process = await self._session(link, start, ends)
        running = Running(process, wrapped, name, password)
        over = False
        try:
            async with asyncio.timeout(_left(ends)):
                status = await running.carry(output, stdin, most)
            over = True
            live.heard()
            return status
        finally:
            if over or process.returncode is not None or live.opened.connection.is_closed():
                live.gate.leave()
            else:
                link.later(self._end(running, live))

    async def _end(self, running: Running, live: Live) -> None:
        try:
            await running.end(live.opened.connection, self._pace.ending)
        finally:
            live.gate.leave()

    async def _session(self, link: Link, make: Callable[[Any], Awaitable[Made]], ends: float | None) -> tuple[Live, Made]:
        """A session on the connection, as `make` makes it; its place at the gate is the caller's to give back.

        Raises:
            UnreachableError: None could be had: nothing was done.
            ShellError: It was cut off while it was made.
            TimeoutError: It took too long to be made.
        """
        import asyncssh

        refused = closed = 0
        while True:
            live = await self._place(link, ends)
            try:
                return live, await self._make(link, live, make, ends)
            except asyncssh.ChannelOpenError as error:
                if live.opened.connection.is_closed() and not closed:
                    closed = 1  # it broke just now: once more, on a new one
                elif live.gate.taken:
                    live.gate.learned(live.gate.taken)
                elif (refused := refused + 1) > REFUSALS:
                    step = "look into its SSH server's log, and at MaxSessions and command= there."
                    raise UnreachableError(f"{link.node.name} opens no session for us: {reason_of(error)}.", step) from error
                else:
                    await asyncio.sleep(0.01 * 2**refused)
            except TimeoutError:
                raise
            except (OSError, asyncssh.Error) as error:
                message = f"{link.node.name} was cut off: {reason_of(error)}; the command may have run."
                raise ShellError(message, "look on that machine.") from error

    async def _make(self, link: Link, live: Live, make: Callable[[Any], Awaitable[Made]], ends: float | None) -> Made:
        """Make a session; where nobody waits for it any more it is closed as soon as it is there."""
        making = asyncio.ensure_future(make(live.opened.connection))
        try:
            async with asyncio.timeout(_left(ends)):
                made = await asyncio.shield(making)
        except BaseException:
            if making.done() and (making.cancelled() or making.exception() is not None):
                live.gate.leave()
            else:  # it may have been made in the very moment in which nobody waited any more
                link.later(_late(making, live))
            raise
        live.heard()
        return made

    async def _place(self, link: Link, ends: float | None) -> Live:
        """The connection, with a place at its gate."""
        live = await link.connection(_left(ends) or 0.0 if ends is not None else 3 * self._pace.login)
        try:
            async with asyncio.timeout(_left(ends)):
                await live.gate.enter()
        except TimeoutError:
            reason = f"{link.node.name}: all {live.gate.most} sessions that it allows were taken all the time; nothing was run."
            raise UnreachableError(
                reason, "end a terminal or a command there, or raise MaxSessions in its sshd_config."
            ) from None
        return live

    async def terminal(self, node: str, term: str, columns: int, rows: int, command: str = "") -> SshTerminal:
        """See model.FleetShell."""

        async def start(connection: Any) -> Any:
            return await connection.create_process(command or None, term_type=term, term_size=(columns, rows), encoding=None)

        live, process = await self._opened(node, start, "a terminal")
        return SshTerminal(process, live, node)

    @asynccontextmanager
    async def files(self, node: str) -> AsyncIterator[SftpFiles]:
        """See model.FleetShell."""

        async def start(connection: Any) -> Any:
            return await connection.start_sftp_client()

        live, client = await self._opened(node, start, "its files (SFTP)")
        try:
            yield SftpFiles(client, node)
        finally:
            client.exit()
            live.gate.leave()

    async def _opened(self, node: str, start: Callable[[Any], Awaitable[Made]], what: str) -> tuple[Live, Made]:
        try:
            return await self._session(self._link(node), start, time.monotonic() + OPENING_LIMIT)
        except TimeoutError:
            raise UnreachableError(f"{node} did not give {what} within {OPENING_LIMIT:g} s.", "try it again.") from None

    async def _over(self, jump: str, limit: float) -> Any:
        try:
            link = self._link(jump)
        except NotFoundError as error:
            raise UnreachableError(error.message, error.next_step) from None
        return (await link.connection(limit)).opened.connection

    def _link(self, name: str) -> Link:
        node = self._inventory.get(name)
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = Link(node, self._logins, self._pace, self._told, self._clock)
        elif link.node is not node:
            link.entry(node)
        return link

    def _told(self, node: str, status: LinkStatus) -> None:
        for watcher in self._watchers:
            watcher(node, status)

    async def close(self) -> None:
        """Let go of all connections."""
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(each.close() for each in links))


async def _late(making: asyncio.Future[Any], live: Live) -> None:
    """Close what was made after all, and give its place back."""
    import asyncssh

    try:
        made = await making
    except (OSError, asyncssh.Error, asyncio.CancelledError):
        return
    else:
        (made.exit if hasattr(made, "exit") else made.close)()
    finally:
        live.gate.leave()


def _left(ends: float | None) -> float | None:
    return None if ends is None else max(0.0, ends - time.monotonic())
