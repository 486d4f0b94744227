"""A peer's own machine, over SSH: its configuration is written, its keys are changed, its view is asked for."""

from __future__ import annotations

from appliance.core.ports import Ran, RemoteShell
from appliance.core.vpn import keys, scripts
from appliance.core.vpn.peers import Peer
from appliance.core.vpn.rekey import NewKeys, rekeyed, secrets_in
from appliance.core.vpn.rotation import NODE
from appliance.errors import AbsentError, ConflictError, InvalidArgumentsError, NotFoundError, ShellError

MOST = 1 << 20
"""Bytes of a node's answer that are looked at."""


class Nodes:
    """The other ends, as far as they are reached over SSH.

    Args:
        shell: Runs commands there; None where there is none.
        interface: Name of the interface there, where a peer names no other.
        folder: Where wg-quick's files lie there.
    """

    def __init__(self, shell: RemoteShell | None, interface: str, folder: str = scripts.FOLDER) -> None:
        self._shell = shell
        self._interface = interface
        self._folder = folder

    def known(self, name: str) -> bool:
        """Whether a node of that name is reached over SSH."""
        return self._shell is not None and name in self._shell.nodes()

    def interface(self, peer: Peer) -> str:
        """Of the peer's own end."""
        return peer.node_interface or self._interface

    async def _run(self, peer: Peer, script: str, *arguments: str, stdin: str = "", limit: float = 30.0) -> Ran:
        if not peer.node:
            raise ConflictError(f"{peer.name} has no node.", f"name it: `prime-spark vpn peer change {peer.name} --node NODE`.")
        if self._shell is None:
            raise AbsentError("No other machine is reached over SSH.", "add nodes to the inventory, and their keys.")
        command = scripts.command(script, self.interface(peer), self._folder, *arguments)
        return await self._shell.run(peer.node, command, stdin=stdin.encode(), limit=limit)

    async def configuration(self, peer: Peer) -> str:
        """The node's own file; it has its private key in it.

        Raises:
            NotFoundError: It has none.
            ConflictError: Its keys are not those of this peer.
            ShellError, UnreachableError: It could not be read.
        """
        ran = await self._run(peer, scripts.READ)
        if ran.exit_status:
            raise NotFoundError(
                f"{peer.node} has no configuration {self._folder}/{self.interface(peer)}.conf that can be read.",
                f"write one: `prime-spark vpn peer provision {peer.name}`.",
            )
        text = ran.stdout[:MOST].decode(errors="replace")
        private, _ = secrets_in(text, "")
        if keys.fault(private) or keys.public_of(private) != peer.public_key:
            raise ConflictError(
                f"The configuration of {peer.node} has other keys than {peer.name} has here.",
                f"bring both together: `prime-spark vpn peer provision {peer.name} --replace yes`.",
            )
        return text

    async def switch(self, peer: Peer, text: str, new: NewKeys) -> None:
        """Have the node change over to new keys; it goes back by itself where they give no handshake.

        Args:
            peer: It, with its old public key.
            text: Its present file.
            new: The keys.

        Raises:
            UnreachableError: Nothing ran there.
            ConflictError: It went back, or could not begin: it has its old keys.
            ShellError: It was cut off; nobody knows how it ended.
        """
        old_private, old_shared = secrets_in(text, new.hub)
        head = "\n".join((new.private, new.preshared, old_private, old_shared or "-"))
        tries = str(int(NODE * 5))
        ran = await self._run(peer, scripts.SWITCH, new.hub, tries, stdin=f"{head}\n{rekeyed(text, new)}", limit=NODE + 20)
        if ran.exit_status:
            raise ConflictError(
                f"{peer.node} keeps its old keys: {scripts.fault(ran.exit_status)}.",
                f"see why: `prime-spark vpn explain {peer.name}`; then rotate again.",
            )

    async def start(self, peer: Peer, text: str, *, replace: bool) -> None:
        """Write a whole configuration and bring the tunnel up.

        Raises:
            UnreachableError: Nothing ran there.
            ConflictError: It is as it was before.
            ShellError: It was cut off; nobody knows how it ended.
        """
        ran = await self._run(peer, scripts.START, "yes" if replace else "no", stdin=text, limit=60.0)
        if ran.exit_status == 76:
            raise ConflictError(
                f"{peer.node} has a configuration {self.interface(peer)}.conf that was not made here.",
                "look at it; --replace yes takes its place (it is kept beside as .before).",
            )
        if ran.exit_status:
            raise ConflictError(
                f"{peer.node} was not provisioned: {scripts.fault(ran.exit_status)}.", "mend that, and try again."
            )

    async def undo(self, peer: Peer) -> None:
        """Take the configuration back. Raises UnreachableError, ShellError."""
        ran = await self._run(peer, scripts.UNDO, limit=60.0)
        if ran.exit_status:
            raise ShellError(
                f"The configuration of {peer.node} was not taken back: {scripts.fault(ran.exit_status)}.",
                f"look at {self._folder}/{self.interface(peer)}.conf there.",
            )

    async def dump(self, peer: Peer) -> str:
        """The other side's view, without its keys: `wg show IF dump`, whose secrets are cut off there already.

        Raises:
            UnreachableError, ShellError: It could not be asked.
            NotFoundError: Its interface is not there.
        """
        ran = await self._run(peer, DUMP, limit=10.0)
        if ran.exit_status:
            raise NotFoundError(f"{peer.node} has no interface {self.interface(peer)}.", "provision it, or bring it up there.")
        return ran.stdout[:MOST].decode(errors="replace")


DUMP = """
date +%s
wg show "$1" dump | while read -r first second third fourth fifth sixth seventh eighth; do
    if [ -z "$fifth" ]; then echo "own $second $third"; continue; fi
    echo "peer $first $third $fourth $fifth $sixth $seventh $eighth"
done
wg show "$1" > /dev/null 2>&1
"""
"""What a node sees: the time there; "own PUBLIC PORT"; "peer PUBLIC ENDPOINT ALLOWED HANDSHAKE RX TX KEEPALIVE"."""


def checked_node(nodes: Nodes, name: str) -> str:
    """A node's name. Raises InvalidArgumentsError where it is empty of sense; an unknown one is told when it is used."""
    if name and not all(sign.isalnum() or sign in "._-" for sign in name):
        raise InvalidArgumentsError(f"{name[:40]!r} is no name of a node.", "use its name in the inventory.")
    return name
