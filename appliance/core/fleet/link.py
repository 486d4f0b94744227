"""Commands on other machines over SSH: the one home of the SSH client (implements ports.RemoteShell)."""

from __future__ import annotations

import asyncio
import difflib
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import ApplianceError, NotFoundError, ShellError, UnreachableError

if TYPE_CHECKING:
    import asyncssh

    from appliance.core.fleet.keys import OwnKey

LOGIN_LIMIT = 10.0
"""Seconds to reach a machine and to log in."""
OUTPUT_LIMIT = 4 << 20
"""Bytes that are kept of each of a command's two outputs; one that says more is ended."""


@dataclass(frozen=True)
class Access:
    """How a machine is reached.

    Attributes:
        host: Name or address.
        port: TCP port.
        user: Who to be there.
        key_file: Private key; the appliance's own where it is None.
        host_key: SHA-256 fingerprint that its host key must have; empty where it was never confirmed.
    """

    host: str
    port: int = 22
    user: str = "root"
    key_file: Path | None = None
    host_key: str = ""


@dataclass(frozen=True)
class Answer:
    """What a command came to (implements ports.Ran)."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class SshShell:
    """Runs commands, each over a connection of its own.

    Args:
        nodes: Machines by name.
        own: The appliance's own key, made where it is first needed.
    """

    def __init__(self, nodes: Mapping[str, Access], own: OwnKey) -> None:
        self._nodes = dict(nodes)
        self._own = own

    def nodes(self) -> Sequence[str]:
        """Names that can be reached."""
        return tuple(self._nodes)

    def access(self, node: str) -> Access:
        """How a machine is reached. Raises NotFoundError."""
        if node not in self._nodes:
            near = difflib.get_close_matches(node, self._nodes, 1)
            step = (
                f"did you mean {near[0]}?" if near else "add it to the configuration as [fleet.nodes.NAME] with host and user."
            )
            raise NotFoundError(f"There is no machine {node}.", step)
        return self._nodes[node]

    async def run(self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0) -> Answer:
        """See ports.RemoteShell."""
        access = self.access(node)
        began = time.monotonic()
        connection = await self._connect(node, access, min(limit, LOGIN_LIMIT))
        try:
            async with asyncio.timeout(max(0.0, limit - (time.monotonic() - began))):
                return await _carry_out(connection, node, shlex.join(command), stdin)
        except TimeoutError:
            raise ShellError(
                f"{node} did not end {command[0]} within {limit:g} s; it may go on there.",
                "look on that machine what became of it.",
            ) from None
        finally:
            connection.abort()

    async def _connect(self, node: str, access: Access, limit: float) -> asyncssh.SSHClientConnection:
        import asyncssh

        key = str(access.key_file) if access.key_file else await asyncio.to_thread(self._own.private)
        keeper = _keeper(access.host_key)
        try:
            async with asyncio.timeout(limit):
                return await asyncssh.connect(
                    access.host, access.port, username=access.user, client_keys=[key], known_hosts=b"", client_factory=keeper,
                    config=None, agent_path=None, password_auth=False, kbdint_auth=False, gss_host=None,
                )  # fmt: skip
        except TimeoutError:
            raise _unreachable(node, access, f"no answer within {limit:g} s", "is it on, and on this network?") from None
        except asyncssh.HostKeyNotVerifiable:
            raise _other_key(node, access, keeper.seen) from None
        except asyncssh.PermissionDenied:
            step = f"on {node}, put what `prime-spark fleet key` prints into authorized_keys of {access.user}."
            raise _unreachable(node, access, f"it does not let {access.user} in with this key", step) from None
        except (OSError, asyncssh.Error, asyncssh.KeyImportError) as error:
            raise _unreachable(
                node, access, _reason(error), "check host, port and key of this machine in the configuration."
            ) from error


async def _carry_out(connection: asyncssh.SSHClientConnection, node: str, command: str, stdin: bytes) -> Answer:
    import asyncssh

    try:
        process: Any = await connection.create_process(command, encoding=None)
    except (OSError, asyncssh.Error) as error:
        raise UnreachableError(
            f"{node} does not run commands for us: {_reason(error)}.", "look into its SSH server's log."
        ) from error
    try:
        outputs = await asyncio.gather(_bounded(process.stdout, node), _bounded(process.stderr, node), _feed(process, stdin))
        await process.wait_closed()
    except (OSError, asyncssh.Error) as error:
        raise ShellError(f"{node} was cut off: {_reason(error)}; the command may have run.", "look on that machine.") from error
    if process.returncode is None:
        raise ShellError(f"{node} was cut off in the middle of the command; it may have run.", "look on that machine.")
    return Answer(process.returncode, outputs[0], outputs[1])


async def _feed(process: Any, stdin: bytes) -> None:
    """Give the command its input; one that ends before it has read all is no fault."""
    try:
        process.stdin.write(stdin)
        process.stdin.write_eof()
        await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return


async def _bounded(stream: Any, node: str) -> bytes:
    parts, size = [], 0
    while part := await stream.read(65536):
        parts.append(part)
        size += len(part)
        if size > OUTPUT_LIMIT:
            raise ShellError(f"{node} answers more than {OUTPUT_LIMIT >> 20} MiB; it was cut off.", "ask for less.")
    return b"".join(parts)


def _keeper(wanted: str) -> Any:
    """A client that takes one host key, and remembers which one it was shown."""
    import asyncssh

    class Keeper(asyncssh.SSHClient):
        seen = ""

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            del host, addr, port
            type(self).seen = key.get_fingerprint("sha256")
            return bool(wanted) and type(self).seen == wanted

    return Keeper


def _other_key(node: str, access: Access, seen: str) -> ApplianceError:
    where = f"under [fleet.nodes.{node}]"
    if not access.host_key:
        reason = f"its host key was never confirmed: {seen or 'it showed none'}"
        step = f'compare with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there; if equal: host_key = "{seen}" {where}.'
        return _unreachable(node, access, reason, step)
    reason = (
        f"ITS HOST KEY IS ANOTHER ONE, {seen} instead of {access.host_key}: another machine, or one that was installed anew"
    )
    return _unreachable(node, access, reason, f"find out why; only then put the new fingerprint {where}.")


def _unreachable(node: str, access: Access, reason: str, step: str) -> UnreachableError:
    return UnreachableError(f"{node} ({access.user}@{access.host}:{access.port}): {reason}.", step)


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)
