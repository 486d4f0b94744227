"""What all connections of the SSH server share: who may try, and how often. Nothing here needs the SSH library."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from appliance.core.model import Actor, UserInfo
from appliance.session.limits import LoginLimiter, SparingLog

if TYPE_CHECKING:
    from appliance.session.gate import Gate

log = logging.getLogger(__name__)

T = TypeVar("T")

HALF_OPEN, PER_SOURCE = 32, 8
"""Connections that may be open without a login: in all, and from one address."""
NAME_SHOWN = 40
"""Characters of a name that are logged."""


class Accounts(Protocol):
    """Who may come in; lives on the core loop."""

    async def check_password(self, name: str, password: str) -> UserInfo | None:
        """The user, if the password is right. The hash is computed in a thread, on no loop."""

    async def check_key(self, name: str, mark: str) -> UserInfo | None:
        """The user, if the key (SHA-256 fingerprint, "SHA256:…") may log in as them; the role is what the key gives."""

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with a user's name when what they logged in with holds no more; returns what ends it."""


Note = Callable[[Actor, str, str], Coroutine[Any, Any, None]]
"""(actor, outcome, detail): writes a login into the audit; runs on the core loop."""


class Doorkeeper:
    """What all connections share. On the UI loop, where not said otherwise.

    Args:
        accounts: Who may come in.
        core: The core loop, where accounts and the audit live.
        note: Writes logins into the audit.
        banner: What everybody reads before the login; "" for nothing.
    """

    def __init__(self, accounts: Accounts, core: asyncio.AbstractEventLoop, note: Note, banner: str) -> None:
        self.accounts = accounts
        self.banner = banner
        self.limiter = LoginLimiter(time.monotonic)
        self.connections: set[Gate] = set()
        self.emptied = asyncio.Event()
        """Set when the last connection ends."""
        self._core = core
        self._note = note
        self._failures = SparingLog(log, time.monotonic)

    def admits(self, source: str) -> bool:
        """Whether an address may try now."""
        waiting = [gate.source for gate in self.connections if gate.user is None]
        crowded = len(waiting) >= HALF_OPEN or waiting.count(source) >= PER_SOURCE
        if crowded:
            self.limiter.refused += 1
        return not crowded and not self.limiter.locked(source)

    async def on_core(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine of the core loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._core))

    def failed(self, gate: Gate, username: str, how: str) -> bool:
        """Note a failed login; True where it locks the address."""
        locked = self.limiter.failed(gate.source)
        text = "%s is locked out after failed logins (last as %r, %s)" if locked else "login from %s as %r failed (%s)"
        self._failures.warning(text, gate.address, username[:NAME_SHOWN], how)
        return locked

    def gates_of(self, name: str) -> list[Gate]:
        """A user's connections; logins that are under way with what holds no more come to nothing."""
        for gate in self.connections:
            gate.forget(name)
        return [gate for gate in self.connections if gate.user is not None and gate.user.name == name]

    def came_in(self, gate: Gate) -> None:
        """Forget the address's failures and have the login audited."""
        self.limiter.succeeded(gate.source)
        actor = gate.actor()
        log.info("%s logged in from %s as %s", actor.name, actor.origin, actor.role.name)
        asyncio.run_coroutine_threadsafe(self._note(actor, "ok", f"logged in from {actor.origin}"), self._core)
