"""Looks at the host key that a machine shows, and at what it wants of us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncssh

FAMILIES: tuple[tuple[str, ...], ...] = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""Kinds of host keys that a machine may have, each with its algorithms; a confirmed one may be of any kind."""
AGENT_LIMIT = 3.0
"""Seconds in which the agent must tell its keys; one that hangs must not make its machines seem to hang."""
MOST_AGENT_KEYS = 4
"""Keys of the agent that are tried after our own; sshd lets in after six at most."""


@dataclass
class Seen:
    """What a login met.

    Attributes:
        fingerprint: Of the host key that was shown.
        kind: Of that key.
        wants: What it asked for besides a key, such as "password".
        lost: Called where the connection ends.
    """

    fingerprint: str = ""
    kind: str = ""
    wants: set[str] = field(default_factory=set)
    lost: Callable[[Exception | None], None] = lambda _: None
    agent: asyncssh.SSHAgentClient | None = None
    """Open until `done`."""

    def done(self) -> None:
        """The login is over."""
        if self.agent is not None:
            self.agent.close()
            self.agent = None


def keeper(seen: Seen, accepted: Collection[str], agent: str) -> Any:
    """A factory of clients that take the accepted host keys and never answer a question.

    Args:
        seen: Filled.
        accepted: Fingerprints.
        agent: Path of the agent's socket; empty for none.
    """
    import asyncssh

    class Keeper(asyncssh.SSHClient):
        def __init__(self) -> None:
            self._agent_keys: list[Any] | None = None

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            del host, addr, port
            seen.fingerprint, seen.kind = key.get_fingerprint("sha256"), key.get_algorithm()
            return seen.fingerprint in accepted

        async def public_key_auth_requested(self) -> Any:
            if self._agent_keys is None:
                self._agent_keys = await _agent_keys(agent, seen)
            return [self._agent_keys.pop(0)] if self._agent_keys else None

        def password_auth_requested(self) -> None:
            seen.wants.add("password")

        def kbdint_auth_requested(self) -> None:
            seen.wants.add("keyboard-interactive")

        def connection_lost(self, exc: Exception | None) -> None:
            seen.lost(exc)

    return Keeper


async def _agent_keys(path: str, seen: Seen) -> list[Any]:
    """Keys of the agent; none where it does not answer: the refusal that follows names the agent."""
    if not path:
        return []
    import asyncssh

    try:
        async with asyncio.timeout(AGENT_LIMIT):
            seen.agent = await asyncssh.connect_agent(path)
            return list(await seen.agent.get_keys())[:MOST_AGENT_KEYS]
    except TimeoutError:
        seen.wants.add(f"an agent that answers (nothing within {AGENT_LIMIT:g} s)")
    except (OSError, ValueError, asyncssh.Error) as error:
        seen.wants.add(f"an agent that answers ({error})")
    return []
