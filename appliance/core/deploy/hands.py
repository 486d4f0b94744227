"""What is done on nodes: files of a version, start, state and stop of a replica, over the fleet's shell.

Every command may be given again: after a crash nobody knows how far the last one came.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from appliance.core.deploy.model import Replica
from appliance.core.deploy.spec import ServiceSpec
from appliance.core.fleet.model import FleetShell
from appliance.core.ports import Ran
from appliance.core.secrets import Secrets
from appliance.errors import DeployError, NotFoundError, PortTakenError

QUESTION, COMMAND, PREPARE, PULL = 10.0, 30.0, 600.0, 900.0
"""Seconds: for a question, a single command, what a version needs first, bringing a project up (images may have to come)."""
TAKEN = 98
"""Exit status of our script where the port is taken."""
PUT = 'umask 077; mkdir -p "$1" && cat > "$1/.$2.$$" && chmod "$3" "$1/.$2.$$" && mv -f "$1/.$2.$$" "$1/$2"'
"""Writes standard input into a file: whole, or not at all. Arguments: folder, name, mode."""
LISTENS = (
    "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | "
    'awk -v want=":$(printf \'%04X\' "$port")" \'$4 == "0A" && substr($2, length($2) - 4) == want { found = 1 } '
    "END { exit !found }'"
)
"""True where something listens on TCP port $port."""


class Found(msgspec.Struct, frozen=True):
    """How a replica is on its node."""

    running: bool
    there: bool
    """Something of it is there, running or not."""
    reason: str = ""
    healthy: bool | None = None
    """What the container's own health check says; None where it has none."""


class Carrier(Protocol):
    """One kind of service on nodes. All raise ShellError (UnreachableError where nothing ran) and DeployError."""

    async def install(self, spec: ServiceSpec, replica: Replica, environment: str) -> None:
        """Put the version's files there."""

    async def start(self, spec: ServiceSpec, replica: Replica) -> None:
        """Start it; PortTakenError where something else has the port."""

    async def stop(self, spec: ServiceSpec, replica: Replica) -> None:
        """Stop it, and take away what belongs to this replica alone."""

    async def find(self, spec: ServiceSpec, replica: Replica) -> Found:
        """How it is."""

    async def clear(self, specs: Mapping[int, ServiceSpec], node: str) -> None:
        """Take the files of versions (revision → specification) away."""

    def by_hand(self, spec: ServiceSpec, replica: Replica) -> str:
        """The command with which an operator stops it there."""


class Remote:
    """Commands on a node, with errors that say what was tried.

    Args:
        shell: Runs them.
        folder: Where files of versions lie on every node.
    """

    def __init__(self, shell: FleetShell, folder: str) -> None:
        self.shell = shell
        self.folder = folder

    async def try_(self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = COMMAND) -> Ran:
        """Run as root there, whatever it comes to. Raises ShellError."""
        return await self.shell.run(node, command, stdin=stdin, limit=limit, sudo=True)

    async def do(self, node: str, what: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = COMMAND) -> str:
        """Run as root there; its output. Raises ShellError, DeployError where it fails."""
        ran = await self.try_(node, command, stdin=stdin, limit=limit)
        if ran.exit_status == TAKEN:
            raise PortTakenError(f"{node}: the port is taken by something else.", "ss -ltnp there says by what.")
        if ran.exit_status != 0:
            raise DeployError(f"{node}: {what} failed with {ran.exit_status}: {said(ran)}", f"look at {node}.")
        return ran.stdout.decode(errors="replace")

    async def script(self, node: str, what: str, text: str, *given: str, stdin: bytes = b"", limit: float = COMMAND) -> str:
        """Run a shell script as root there. Raises as `do`."""
        return await self.do(node, what, ("sh", "-c", text, "sh", *given), stdin=stdin, limit=limit)

    async def put(self, node: str, folder: str, name: str, content: str, mode: int = 0o600) -> None:
        """Write a file there, whole. Its content goes through standard input. Raises as `do`."""
        await self.script(node, f"writing {name}", PUT, folder, name, f"{mode:o}", stdin=content.encode())

    def home(self, service: str, revision: int) -> str:
        """Folder of a version there."""
        return f"{self.folder}/{service}/r{revision}"


def said(ran: Ran) -> str:
    """The last words of a command."""
    text = (ran.stderr or ran.stdout).decode(errors="replace").strip()
    return " ".join(text.splitlines()[-3:])[-400:] or "it said nothing"


def filled(text: str, replica: Replica) -> str:
    """A text of the specification for one replica."""
    given = {"{port}": str(replica.port), "{version}": replica.label, "{node}": replica.node, "{replica}": replica.replica_id}
    for name, value in given.items():
        text = text.replace(name, value)
    return text


async def environment_of(spec: ServiceSpec, secrets: Secrets, quote: str) -> str:
    """The environment file of a version, with its secrets.

    Args:
        spec: It.
        secrets: Where secrets are.
        quote: "systemd" for an EnvironmentFile, "plain" for lines that a shell exports.

    Raises:
        NotFoundError: A secret is not there.
        StoreError: It cannot be read.
    """
    values = dict(spec.environment)
    for variable, name in spec.secrets.items():
        text = await asyncio.to_thread(secrets.text, name)
        if not text:
            raise NotFoundError(
                f"There is no secret {name}, which {spec.name} wants as {variable}.",
                f"give it: prime-spark deploy secret {name}",
            )
        values[variable] = text
    if quote != "systemd":
        return plain_lines(values)
    return "".join(f"{name}={systemd_value(value)}\n" for name, value in sorted(values.items()))


def systemd_value(value: str) -> str:
    """As an EnvironmentFile has it (systemd.exec(5)): in double quotes, four characters escaped."""
    for sign in ("\\", '"', "`", "$"):
        value = value.replace(sign, f"\\{sign}")
    return f'"{value}"'


def plain_lines(values: Mapping[str, str]) -> str:
    """Variables as lines that a shell exports one by one: nothing is quoted, and nothing expanded.

    Raises:
        DeployError: A value has more than one line.
    """
    for name, value in values.items():
        if "\n" in value:
            raise DeployError(f"The value of {name} has more than one line.", "give it another form, such as Base64.")
    return "".join(f"{name}={value}\n" for name, value in sorted(values.items()))


def unit_words(command: str) -> str:
    """A command as ExecStart has it (systemd.service(5)): every word quoted, and nothing expanded."""
    words = []
    for word in shlex.split(command):
        escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        words.append(f'"{escaped}"')
    return " ".join(words)
