"""Confirming that a machine is the one that is meant: its host keys, as it shows them and as they were confirmed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from appliance.core.fleet.inventory import FleetInventory
from appliance.core.fleet.link_login import Logins
from appliance.core.fleet.model import Node
from appliance.errors import ConflictError, InvalidArgumentsError
from appliance.settingfleet import FINGERPRINT


@dataclass(frozen=True)
class Keys:
    """Host keys of one machine.

    Attributes:
        shown: Kind → fingerprint, as it shows them now.
        confirmed: The one that was confirmed; empty where none was.
    """

    shown: dict[str, str]
    confirmed: str


class Trust:
    """Looks at host keys and confirms them.

    Args:
        inventory: Keeps the confirmed ones.
        logins: Asks machines for theirs.
        known: Those that the user's own SSH trusts. Blocks.
    """

    def __init__(
        self, inventory: FleetInventory, logins: Logins, known: Callable[[Node], Collection[str]] = lambda _: ()
    ) -> None:
        self._inventory, self.logins, self._known = inventory, logins, known

    def accepted(self, node: Node) -> tuple[str, ...]:
        """Fingerprints that a machine may show: the confirmed one, else those in the user's known_hosts. Blocks."""
        return (node.host_key,) if node.host_key else tuple(self._known(node))

    async def look(self, name: str) -> Keys:
        """What it shows now. Raises NotFoundError, UnreachableError."""
        node = self._inventory.get(name)
        return Keys(await self.logins.shown(node), node.host_key)

    async def confirm(self, name: str, fingerprint: str, *, replace: bool = False) -> Keys:
        """Take a fingerprint as its own from now on; it must be one that the machine shows.

        Raises:
            InvalidArgumentsError: This is no fingerprint.
            ConflictError: It shows another one; or another one was confirmed before, and `replace` is not set.
        """
        if not fingerprint or not re.fullmatch(FINGERPRINT, fingerprint):
            raise InvalidArgumentsError("This is no SHA-256 fingerprint.", "take the SHA256:… that `ssh-keygen -lf` prints.")
        node = self._inventory.get(name)
        if node.host_key and node.host_key != fingerprint and not replace:
            command = f"`prime-spark fleet trust {name} --fingerprint {fingerprint} --replace`"
            step = f"find out why it has another one; only then: {command}."
            raise ConflictError(f"Another host key was confirmed for {name}: {node.host_key}.", step)
        keys = await self.look(name)
        if fingerprint not in keys.shown.values():
            shown = ", ".join(f"{value} ({kind})" for kind, value in keys.shown.items())
            raise ConflictError(f"{name} shows {shown}, not {fingerprint}.", "look at its keys on its own console.")
        if node.host_key != fingerprint:
            await asyncio.to_thread(self._inventory.pin, name, fingerprint)
        return Keys(keys.shown, fingerprint)
