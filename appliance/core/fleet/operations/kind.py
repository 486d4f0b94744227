"""What one kind of operation is: how it looks at a node, what it would change there, does it, checks it, takes it back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from appliance.core.actions import Params
from appliance.core.model import Role
from appliance.errors import CommandFailedError

if TYPE_CHECKING:
    from appliance.core.fleet.operations.host import Host

LONGEST_DIFF = 4000
"""Characters of a diff that are kept."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a node is, as far as the operation touches it."""

    found: Any = None
    """JSON-able, without what changes by itself (process ids, times): the plan holds only where it is the same again."""
    diff: str = ""
    """What would change, lines with "-" and "+"; empty where it is so already."""
    refuse: str = ""
    """Why it cannot be done here."""
    next_step: str = ""
    undo: Any = None
    """JSON-able, what taking it back needs besides `found`; None where it cannot be taken back."""
    cannot_undo: str = ""
    """Why it cannot, or what of it stays."""


class Kind(ABC):
    """Base of all kinds. One that only follows something sets `changes` to False: it holds no lock.

    Attributes:
        name: "noun.verb", or a word.
        params: Of its arguments.
        role: The lowest role that may do it.
        dangerous: It is confirmed before it is done.
        summary: One line, imperative.
        changes: It may change the node.
        looks: It looks at the nodes before; else nothing is contacted before it is carried out.
        stays: The node is there afterwards, and is looked at again to know how it was left.
        heavy: It is not begun while the power is going.
        room: Folder → free bytes that it needs.
        watched: The expected services of the node must run after it as before; not where it stops some.
        settle: Seconds after which these must be back.
        limit: Seconds that one command of it may take.
        cannot_undo: Why it can never be taken back; empty where it can.
    """

    name: ClassVar[str]
    params: ClassVar[type[Params]]
    summary: ClassVar[str]
    role: ClassVar[Role] = Role.operator
    dangerous: ClassVar[bool] = True
    changes: ClassVar[bool] = True
    looks: ClassVar[bool] = True
    stays: ClassVar[bool] = True
    heavy: ClassVar[bool] = False
    room: ClassVar[dict[str, int]] = {}
    watched: ClassVar[bool] = True
    settle: ClassVar[float] = 3.0
    limit: ClassVar[float] = 60.0
    cannot_undo: ClassVar[str] = ""

    @abstractmethod
    def words(self, args: Any) -> str:
        """What is done, without on which nodes: "restart redis-server.service"."""

    @abstractmethod
    async def look(self, host: Host, args: Any) -> Look:
        """How the node is. Raises ShellError, CommandFailedError."""

    @abstractmethod
    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """Do it; a note on what came of it. Raises ShellError, CommandFailedError."""

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """After it was done, and while it is watched: what is wrong; empty where it is well. Raises ShellError."""
        del host, args, look
        return ""

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """Take it back; doing so twice does no harm. Raises ShellError, CommandFailedError; the base always the latter."""
        why = self.cannot_undo or look.cannot_undo
        raise CommandFailedError(f"{self.name} has no way back: {why}.", "look at that machine.")

    async def rested(self, host: Host) -> None:
        """Before it is taken back: wait for what still goes on there by itself. Raises ShellError, CommandFailedError."""
        del host

    def own_machine(self) -> str:
        """What it would do to the appliance itself, where that is to be confirmed on its own; else empty."""
        return ""


def on(nodes: Sequence[str]) -> str:
    """Which machines, in words."""
    if len(nodes) == 1:
        return f"on {nodes[0]}"
    shown = ", ".join(nodes[:12])
    more = f" and {len(nodes) - 12} more" if len(nodes) > 12 else ""
    return f"on {len(nodes)} nodes ({shown}{more})"


def change(before: str, after: str) -> str:
    """A diff of one line; empty where both are equal."""
    return "" if before == after else f"- {before}\n+ {after}"
