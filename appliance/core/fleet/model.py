"""Values and ports of the fleet. What nobody has read is None; every reading carries the instant of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from appliance.core.model import Health
from appliance.core.ports import Ran, RemoteShell
from appliance.errors import ApplianceError


class Reach(StrEnum):
    """How the link to a node is. None of these says anything about how the node itself is."""

    never = "never"
    """Nobody has tried yet."""
    connecting = "connecting"
    up = "up"
    stale = "stale"
    """It was up, and has not answered for longer than a round."""
    unreachable = "unreachable"
    """It does not answer, or the way there is broken."""
    refused = "refused"
    """It answers and does not let us in: wrong key, password wanted."""
    untrusted = "untrusted"
    """Its host key was never confirmed."""
    changed = "changed"
    """IT SHOWS ANOTHER HOST KEY than the confirmed one."""
    off = "off"
    """Powered down by us, or set aside by the operator (maintenance)."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One machine of the inventory."""

    name: str
    host: str
    """Name or address."""
    port: int = 22
    user: str = "root"
    role: str = ""
    """What it is for, such as "orchestration"."""
    vpn_address: str = ""
    """Tried where `host` does not answer."""
    jump: str = ""
    """Name of the node through which it is reached."""
    key_file: str = ""
    """Private key; the appliance's own where it is empty."""
    host_key: str = ""
    """SHA-256 fingerprint as `ssh-keygen -lf` prints it; empty where it was never confirmed."""
    groups: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    services: tuple[str, ...] = ()
    """Expected ones: units ("redis-server.service"), compose projects ("compose:openwebui"), ports ("tcp:9092")."""
    sudo: str = "auto"
    """"never", "auto" (without a password where the user is not root), "password" (from the secret fleet.NAME.sudo)."""
    mac: str = ""
    """Of the card that wakes it (Wake-on-LAN)."""
    enabled: bool = True
    """False while the operator has set it aside: nothing contacts it."""
    origin: str = "inventory"
    """"configuration" (changed there only) or "inventory"."""


class LinkStatus(msgspec.Struct, frozen=True):
    """The one connection to a node."""

    reach: Reach = Reach.never
    reason: str = ""
    next_step: str = ""
    since: float = 0.0
    """Monotonic instant of the last change of `reach`."""
    answered: float | None = None
    """Monotonic instant of the node's last sign of life; None where it never gave one."""
    latency_ms: float | None = None
    """Of the last keepalive's round trip, or of the last command's."""
    address: str = ""
    """Where it was reached: host or VPN address, with "via NAME" where it goes through another node."""
    retry_at: float | None = None
    """Monotonic instant of the next attempt."""
    sessions: int = 0
    """Open channels."""
    offered_key: str = ""
    """Fingerprint that it showed; to be compared where it is untrusted or changed."""


class Terminal(Protocol):
    """An interactive shell on a node."""

    async def read(self) -> bytes:
        """The next output; empty at its end. Raises ShellError where the link breaks."""

    async def write(self, data: bytes) -> None:
        """Type. Raises ShellError."""

    def resize(self, columns: int, rows: int) -> None:
        """The window has another size."""

    async def close(self) -> int | None:
        """End it; its exit status, None where it has none."""


class FileInfo(msgspec.Struct, frozen=True):
    """One file or folder on a node."""

    path: str
    size: int
    mode: int
    """Permission bits and type, as st_mode."""
    modified: float
    owner: int
    group: int
    is_folder: bool = False
    link_to: str | None = None


class RemoteFiles(Protocol):
    """Files of a node over SFTP. All raise ShellError (UnreachableError, NotFoundError, DiskFullError where they fit)."""

    async def stat(self, path: str) -> FileInfo:
        """Of one, not following a link at its end."""

    async def list(self, path: str) -> Sequence[FileInfo]:
        """What is in a folder, by name."""

    def read(self, path: str, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """Its bytes in blocks."""

    async def write(self, path: str, blocks: AsyncIterator[bytes], *, offset: int = 0, mode: int = 0o644) -> int:
        """Write from an offset on (the rest is cut off), flush it to the disk there; bytes written."""

    async def rename(self, old: str, new: str) -> None:
        """Atomically, over an existing file."""

    async def remove(self, path: str) -> None:
        """A file, or an empty folder."""

    async def make_folder(self, path: str, mode: int = 0o755) -> None:
        """With its parents; one that is there is no fault."""

    async def set(self, path: str, *, mode: int | None = None, modified: float | None = None) -> None:
        """Permissions and time."""


Output = Callable[[str, bytes], Awaitable[None] | None]
"""Called with "stdout" or "stderr" and what came."""


class FleetShell(RemoteShell, Protocol):
    """Everything that is done on other machines, over one connection each.

    Errors as in ports.RemoteShell; and NotAllowedError (a ShellError: nothing ran) where sudo or the login shell there refuses.
    """

    async def run(
        self, node: str, command: Sequence[str], *, stdin: bytes = b"", limit: float = 30.0, sudo: bool = False
    ) -> Ran:
        """As ports.RemoteShell; as root where `sudo` (by the node's own way to it)."""

    async def stream(
        self, node: str, command: Sequence[str], output: Output, *, stdin: bytes = b"", limit: float | None = None,
        sudo: bool = False, most: int | None = None,
    ) -> int:  # fmt: skip
        """Run, handing its output over as it comes; its exit status. Ended there where the caller is cancelled.

        Raises:
            ShellError: As `run`; it said more than `most` bytes.
        """

    async def terminal(self, node: str, term: str, columns: int, rows: int, command: str = "") -> Terminal:
        """An interactive shell, or a program, on a pseudo-terminal there."""

    def files(self, node: str) -> AbstractAsyncContextManager[RemoteFiles]:
        """Its files."""

    def link(self, node: str) -> LinkStatus:
        """How its connection is. Raises NotFoundError."""

    def due(self, node: str) -> bool:
        """Whether a try makes sense now: rounds ask this first, so that the pauses after failures are kept.

        The other calls try at once, whenever the last try was. Raises NotFoundError.
        """

    def off(self, node: str, reason: str) -> None:
        """It was powered down by us: shown as off until it answers again. Raises NotFoundError."""

    def node(self, name: str) -> Node:
        """Its entry in the inventory. Raises NotFoundError, naming the nearest one."""


class Disk(msgspec.Struct, frozen=True):
    """One mounted file system of a node, bytes."""

    mount: str
    device: str
    kind: str
    size: int
    used: int


class NodeMetrics(msgspec.Struct, frozen=True):
    """One look at a node's numbers (every 10 s)."""

    time: float
    """Wall clock here."""
    monotonic: float
    cpu: float | None = None
    """Percent of all cores since the look before; None at the first."""
    load_1m: float | None = None
    load_5m: float | None = None
    load_15m: float | None = None
    memory: float | None = None
    """Percent."""
    memory_total: int | None = None
    swap: float | None = None
    disks: tuple[Disk, ...] = ()
    disk: float | None = None
    """Percent of the fullest file system that holds data."""
    temperature_c: float | None = None
    uptime: float | None = None
    net_rx: float | None = None
    """Bytes a second since the look before, of all real cards."""
    net_tx: float | None = None
    processes: int | None = None
    clock_offset: float | None = None
    """Seconds that its clock is ahead of ours, to half the round trip."""
    took_ms: float = 0.0


class Unit(msgspec.Struct, frozen=True):
    """One systemd service of a node."""

    name: str
    load: str
    active: str
    sub: str
    description: str = ""
    enabled: str = ""


class Container(msgspec.Struct, frozen=True):
    """One container of a node."""

    name: str
    image: str
    state: str
    status: str
    ports: str = ""
    project: str = ""
    """Compose project, empty where it has none."""
    service: str = ""


class NodeFacts(msgspec.Struct, frozen=True):
    """What changes seldom (every 5 min). Each None was not told, and `missing` says why."""

    time: float
    monotonic: float
    hostname: str | None = None
    os: str | None = None
    """Pretty name, such as "Debian GNU/Linux 12 (bookworm)"."""
    kernel: str | None = None
    arch: str | None = None
    board: str | None = None
    """Model of the machine, such as "Raspberry Pi 5 Model B Rev 1.0"."""
    cpu_model: str | None = None
    cores: int | None = None
    timezone: str | None = None
    python: str | None = None
    docker: str | None = None
    agent: str | None = None
    """Version of our agent there."""
    units: tuple[Unit, ...] | None = None
    containers: tuple[Container, ...] | None = None
    updates: int | None = None
    """Packages that could be upgraded."""
    security_updates: int | None = None
    reboot_required: bool | None = None
    addresses: dict[str, tuple[str, ...]] = {}
    """Interface → addresses with prefix length."""
    listening: tuple[int, ...] | None = None
    """TCP ports that something listens on."""
    wireguard: dict[str, dict[str, Any]] = {}
    """Interface → {"peers": int, "latest_handshake": seconds since, …}; no key."""
    users: tuple[str, ...] | None = None
    """People's accounts (UID 1000 and above, and root)."""
    missing: dict[str, str] = {}
    """Fact → why it was not told ("docker: no such command", "apt: needs root")."""
    took_ms: float = 0.0


class ServiceState(msgspec.Struct, frozen=True):
    """One expected service of a node, as its last facts have it."""

    name: str
    ok: bool | None
    """None where nothing told."""
    state: str


class NodeStatus(msgspec.Struct, frozen=True):
    """One row of the fleet table."""

    node: Node
    link: LinkStatus
    health: Health
    reason: str
    next_step: str = ""
    metrics: NodeMetrics | None = None
    facts: NodeFacts | None = None
    expected: tuple[ServiceState, ...] = ()
    busy: str = ""
    """Id of the operation that changes it now."""
    trend: dict[str, tuple[float, ...]] = {}
    """Metric → its last values, oldest first (cpu, memory, disk, temperature_c)."""
    numbers_old: float = 25.0
    """Seconds after which its metrics are old: looks were missed."""
    facts_old: float = 660.0
    """Seconds after which its facts are old."""


class FleetStatus(msgspec.Struct, frozen=True):
    """The whole fleet."""

    nodes: tuple[NodeStatus, ...] = ()
    """By name."""
    round_ms: float | None = None
    """How long the last round of metrics took, all nodes."""
    own_key: str = ""
    """The appliance's public key; empty until it was made."""
    problem: str = ""
    """Why the inventory is not the one that stands in its file; empty where it is."""


Selector = Sequence[str]
"""Names of nodes, "group:NAME", "tag:KEY=VALUE", "role:NAME", "all", each with "!" before it to leave out."""


class Inventory(Protocol):
    """The machines, changed by actions and by hand."""

    fault: ApplianceError | None
    """Why the file was not taken as it is now: what was read before is in force."""

    def all(self) -> tuple[Node, ...]:
        """By name."""

    def get(self, name: str) -> Node:
        """Raises NotFoundError, naming the nearest one."""

    def select(self, selector: Selector) -> tuple[Node, ...]:
        """Those that are meant. Raises NotFoundError, InvalidArgumentsError; empty is an error too."""

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Group → names."""
