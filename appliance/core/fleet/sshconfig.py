"""What the user's own SSH files know: ~/.ssh/config, known_hosts, and the agent."""

from __future__ import annotations

import getpass
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.core.fleet.inventory_entry import Entry, changed
from appliance.core.fleet.model import Node

log = logging.getLogger(__name__)


class SshFiles:
    """Reads the user's SSH files. Methods block.

    Args:
        folder: Usually ~/.ssh.
    """

    def __init__(self, folder: Path) -> None:
        self._config, self._known = folder / "config", folder / "known_hosts"
        self._aliases: frozenset[str] = frozenset()

    def stamp(self) -> object:
        """See inventory.Fills."""
        try:
            seen = self._config.stat()
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_size

    def fill(self, entry: Entry, names: Mapping[str, str]) -> Node:
        """See inventory.Fills. Only a host that is named there is looked up: what stands under `Host *` is for people."""
        node = entry.node
        if node.host not in self._named():
            return node
        found = self._look_up(node)
        values: dict[str, Any] = {"host": found.get("Hostname", node.host)}
        values |= {field: found[option] for option, field in (("Port", "port"), ("User", "user")) if option in found}
        files = [str(each) for each in found.get("IdentityFile", ()) if Path(str(each)).expanduser().exists()]
        if files:
            values["key_file"] = str(Path(files[0]).expanduser())
        if jump := self._jump(found, names):
            values["jump"] = jump
        return changed(node, **{field: value for field, value in values.items() if field == "host" or field not in entry.given})

    def _jump(self, found: Mapping[str, Any], names: Mapping[str, str]) -> str:
        """The last of its jump hosts, by the name that it has in the inventory; as it is written where it is not in it."""
        last = str(found.get("ProxyJump") or "").rpartition(",")[2].strip()
        if last in ("", "none"):
            return ""
        host = re.sub(r":\d+$", "", last.rpartition("@")[2])
        return names.get(last) or names.get(host) or host

    def _named(self) -> frozenset[str]:
        """Aliases that stand there by name, without the patterns."""
        try:
            text = self._config.read_text(errors="replace")
        except OSError:
            return frozenset()
        lines = re.findall(r"(?im)^\s*Host(?:\s+|\s*=\s*)(.+)$", text)
        words = (word.strip('"') for line in lines for word in line.split())
        return frozenset(word for word in words if not re.search(r"[*?!]", word))

    def _look_up(self, node: Node) -> dict[str, Any]:
        from asyncssh.config import ConfigParseError, SSHClientConfig

        try:
            read: Any = SSHClientConfig.load(None, [self._config], False, False, False, getpass.getuser(), (), node.host, ())
        except (ConfigParseError, OSError, ValueError) as error:
            log.warning("%s cannot be used for %s: %s", self._config, node.name, error)
            return {}
        options = ("Hostname", "Port", "User", "IdentityFile", "ProxyJump")
        return {option: value for option in options if (value := read.get(option)) is not None}

    def known(self, node: Node) -> tuple[str, ...]:
        """Fingerprints of the host keys that known_hosts has for a machine."""
        if not self._known.exists():
            return ()
        import asyncssh

        try:
            known = asyncssh.read_known_hosts(str(self._known))
        except (OSError, ValueError) as error:
            log.warning("%s cannot be used: %s", self._known, error)
            return ()
        keys: set[str] = set()
        for host in {node.host, node.vpn_address} - {""}:
            found = known.match(host, "", node.port if node.port != 22 else None)
            keys |= {each.get_fingerprint("sha256") for each in found[0]} - {
                each.get_fingerprint("sha256") for each in found[2]
            }
        return tuple(sorted(keys))
