"""Logging in on a machine: the ways to it, its host key, our key, and in plain words why it did not work."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from appliance.core.fleet.keeper import FAMILIES, Seen, keeper
from appliance.core.fleet.link_dial import dial
from appliance.core.fleet.link_pace import Pace
from appliance.core.fleet.link_process import reason_of
from appliance.core.fleet.model import Node, Reach
from appliance.errors import UnreachableError

if TYPE_CHECKING:
    import asyncssh

    from appliance.core.fleet.keys import OwnKey

Over = Callable[[str, float], Awaitable[Any]]
"""Gives the connection to a jump host within so many seconds. Raises UnreachableError."""
CIPHERS = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr",
)  # fmt: skip
"""The cheapest first: the client's ChaCha20 makes a cipher of its own for every packet, which costs twice as much."""


class LoginError(UnreachableError):
    """Nobody was let in, and what that says about the link."""

    def __init__(self, reach: Reach, message: str, next_step: str, reason: str, offered: str = "") -> None:
        super().__init__(message, next_step)
        self.reach, self.reason, self.offered = reach, reason, offered


@dataclass(frozen=True)
class Opened:
    """A connection that stands.

    Attributes:
        connection: asyncssh's.
        address: Where it was reached.
        seen: What the login met; `lost` may still be set.
    """

    connection: asyncssh.SSHClientConnection
    address: str
    seen: Seen


@dataclass
class Logins:
    """Logs in, on any machine.

    Attributes:
        own: The appliance's own key.
        pace: How patient.
        accepted: Fingerprints that a machine's host key may have. Blocks.
        agent: Path of an agent's socket; empty for none.
        over: Gives connections to jump hosts.
        turns: Bounds how many log in at once over the whole fleet; a jump host's own login is over before ours takes its turn.
        kinds: The kind of host key that a machine was last accepted with, by its name.
    """

    own: OwnKey
    pace: Pace
    accepted: Callable[[Node], Collection[str]] = lambda node: (node.host_key,) if node.host_key else ()
    agent: str = ""
    over: Over | None = None
    kinds: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turns = asyncio.Semaphore(self.pace.connects)

    async def open(self, node: Node) -> Opened:
        """Log in by the first way that works. Raises LoginError."""
        errors: list[LoginError] = []
        for address, shown in _ways(node):
            try:
                return await self._by(node, address, shown)
            except LoginError as error:
                errors.append(error)
                if error.reach is not Reach.unreachable:
                    break
        if len(errors) == 1 or errors[-1].reach is not Reach.unreachable:
            raise errors[-1]
        reason = f"{errors[0].reason}; nor at {node.vpn_address}: {errors[1].reason}"
        raise _failed(node, Reach.unreachable, reason, errors[0].next_step)

    async def _by(self, node: Node, address: str, shown: str) -> Opened:
        tunnel = await self._tunnel(node)
        accepted = await asyncio.to_thread(self.accepted, node)
        told: LoginError | None = None
        tried: list[tuple[str, ...]] = []
        for kinds in self._kinds(node.name):
            if kinds in tried:
                continue
            seen = Seen()
            try:
                connection = await self._connect(node, address, tunnel, seen, accepted, kinds)
            except LoginError as error:
                tried += [kinds, _family(seen.kind)]
                if error.reach is Reach.changed:  # it may have a key of another kind, and that one was confirmed
                    told = told if told is not None and told.offered else error
                elif told is None or error.reach is not Reach.unreachable:
                    raise
            else:
                self.kinds[node.name] = _family(seen.kind)
                return Opened(connection, f"{shown} via {node.jump}" if node.jump else shown, seen)
            finally:
                seen.done()
        assert told is not None
        raise told

    async def shown(self, node: Node) -> dict[str, str]:
        """The host keys that a machine shows, kind → fingerprint; nobody logs in. Raises LoginError."""
        found: dict[str, str] = {}
        failed: LoginError | None = None
        for address, _ in _ways(node):
            tunnel = await self._tunnel(node)
            for kinds in FAMILIES:
                seen = Seen()
                try:
                    await self._connect(node, address, tunnel, seen, (), kinds)
                except LoginError as error:
                    failed = failed or error
                    if error.reach is not Reach.untrusted and "no answer" in error.reason:
                        break
                if seen.fingerprint:
                    found[seen.kind] = seen.fingerprint
            if found:
                return found
        assert failed is not None
        raise failed

    def _kinds(self, name: str) -> Iterator[tuple[str, ...]]:
        known = self.kinds.get(name)
        yield known or tuple(kind for family in FAMILIES for kind in family)
        yield from (family for family in FAMILIES if family != known)

    async def _tunnel(self, node: Node) -> Any:
        if not node.jump:
            return ()
        if self.over is None:
            raise _failed(node, Reach.unreachable, f"there is no way over {node.jump}", "give it no jump host here.")
        try:
            return await self.over(node.jump, self.pace.login)
        except UnreachableError as error:
            reason = f"its jump host does not work: {error.message.rstrip('.')}"
            raise _failed(node, Reach.unreachable, reason, error.next_step) from None

    async def _connect(
        self, node: Node, address: str, tunnel: Any, seen: Seen, accepted: Collection[str], kinds: tuple[str, ...]
    ) -> asyncssh.SSHClientConnection:
        asyncssh = await _library()
        limit = self.pace.login
        try:
            key = await self._key(node)
            place = await self._reached(node, address, tunnel)
            async with self._turn(place), asyncio.timeout(limit):
                return await asyncssh.connect(  # type: ignore[no-any-return]
                    **place, username=node.user, client_keys=[key], known_hosts=_nobody,
                    x509_trusted_certs=None, client_factory=keeper(seen, accepted, self.agent),
                    server_host_key_algs=list(kinds),
                    encryption_algs=CIPHERS,
                    config=None, agent_path=None, gss_host=None, compression_algs=["none"], login_timeout=limit,
                    preferred_auth="publickey,keyboard-interactive,password", keepalive_interval=self.pace.keepalive,
                    keepalive_count_max=self.pace.missed,
                )  # fmt: skip
        except TimeoutError:
            if seen.fingerprint in accepted:
                reason = f"it answers, and let nobody in within {limit:g} s"
                raise _failed(
                    node, Reach.unreachable, reason, "it may be out of memory, or busy: look at its console."
                ) from None
            raise _failed(node, Reach.unreachable, f"no answer within {limit:g} s", "is it on, and on this network?") from None
        except asyncssh.HostKeyNotVerifiable as error:
            raise _other_key(node, seen, accepted, error) from None
        except asyncssh.KeyExchangeFailed as error:
            if node.name in self.kinds and seen.fingerprint == "":
                reason = "it shows no host key of the kind that was confirmed"
                raise _failed(node, Reach.changed, reason, "find out why.") from None
            raise _failed(node, Reach.unreachable, reason_of(error), "is its SSH server too old?") from None
        except asyncssh.PermissionDenied:
            raise _not_let_in(node, seen) from None
        except asyncssh.ChannelOpenError as error:
            reason = f"{node.jump} does not reach it: {reason_of(error)}"
            raise _failed(
                node, Reach.unreachable, reason, f"is it on, and may {node.jump} forward (AllowTcpForwarding)?"
            ) from None
        except (OSError, asyncssh.Error) as error:
            step = "is it on, and is this its SSH port?"
            if isinstance(error, socket.gaierror):
                step = f"is the name right? `prime-spark fleet change {node.name} --host …` takes an address too."
            raise _failed(node, Reach.unreachable, reason_of(error), step) from error

    async def _reached(self, node: Node, address: str, tunnel: Any) -> dict[str, Any]:
        """Where asyncssh is to log in. A machine that does not answer is waited for before it has a turn."""
        if tunnel:
            return {"host": address, "port": node.port, "tunnel": tunnel}
        async with asyncio.timeout(self.pace.login):
            return {"host": address, "port": node.port, "sock": await dial(address, node.port)}

    @asynccontextmanager
    async def _turn(self, place: dict[str, Any]) -> AsyncIterator[None]:
        """One of the logins at once; a connection whose turn never came is closed."""
        try:
            await self.turns.acquire()
        except BaseException:
            if "sock" in place:
                place["sock"].close()
            raise
        try:
            yield
        finally:
            self.turns.release()

    async def _key(self, node: Node) -> Any:
        asyncssh = await _library()
        try:
            if not node.key_file:
                private = await asyncio.to_thread(self.own.private)
                return asyncssh.import_private_key(private)
            return await asyncio.to_thread(asyncssh.read_private_key, node.key_file)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            if "passphrase" not in str(error).lower():
                reason = f"its key {node.key_file} is no private key that can be used ({reason_of(error)})"
                raise _failed(node, Reach.refused, reason, "name another key_file, or leave it out.") from None
            step = "load it into an agent (ssh-add), or leave key_file out: the appliance has a key of its own."
            raise _failed(node, Reach.refused, f"its key {node.key_file} wants a passphrase", step) from None
        except OSError as error:
            reason = f"its key {node.key_file} cannot be read: {error.strerror}"
            raise _failed(node, Reach.refused, reason, "name another key_file, or let this user read it.") from None


@functools.cache
def _loaded() -> Any:
    import asyncssh

    return asyncssh


async def _library() -> Any:
    """The SSH client; loaded in a thread at its first use, for it takes a while."""
    return await asyncio.to_thread(_loaded)


def _nobody(host: str, addr: str, port: int | None) -> tuple[list[Any], list[Any], list[Any]]:
    """No host key is known beforehand: the keeper looks at each. (An empty value would mean ~/.ssh/known_hosts.)"""
    del host, addr, port
    return [], [], []


def _ways(node: Node) -> Iterator[tuple[str, str]]:
    yield node.host, node.host
    if node.vpn_address and node.vpn_address != node.host:
        yield node.vpn_address, f"{node.vpn_address} (VPN)"


def _family(kind: str) -> tuple[str, ...]:
    fitting = (family for family in FAMILIES if kind in family or (kind == "ssh-rsa" and family[0].startswith("rsa")))
    return next(fitting, (kind,))


def _other_key(node: Node, seen: Seen, accepted: Collection[str], error: BaseException) -> LoginError:
    if not seen.fingerprint:
        return _failed(node, Reach.unreachable, f"its host key cannot be used ({reason_of(error)})", "look at its SSH server.")
    trust = f"`prime-spark fleet trust {node.name} --fingerprint {seen.fingerprint}`"
    if not accepted:
        reason = f"its host key was never confirmed: {seen.fingerprint}"
        step = f"compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there; if equal: {trust}."
        return _failed(node, Reach.untrusted, reason, step, seen.fingerprint)
    reason = (
        f"ITS HOST KEY IS ANOTHER ONE, {seen.fingerprint} instead of {', '.join(accepted)}: "
        "another machine, or one that was installed anew"
    )
    return _failed(node, Reach.changed, reason, f"find out why; only then: {trust[:-1]} --replace`.", seen.fingerprint)


def _not_let_in(node: Node, seen: Seen) -> LoginError:
    what = f"key {node.key_file}" if node.key_file else "the appliance's key"
    wants = f"; it wants {' or '.join(sorted(seen.wants))}" if seen.wants else ""
    step = f"on {node.name}, put what `prime-spark fleet key` prints into ~/.ssh/authorized_keys of {node.user}."
    return _failed(node, Reach.refused, f"it does not let {node.user} in with {what}{wants}", step)


def _failed(node: Node, reach: Reach, reason: str, step: str, offered: str = "") -> LoginError:
    message = f"{node.name} ({node.user}@{node.host}:{node.port}): {reason}."
    return LoginError(reach, message, step, reason, offered)
