"""The machines that the owner has (implements model.Inventory)."""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from appliance.core.fleet import inventory_file as files
from appliance.core.fleet.inventory_entry import Entry, changed
from appliance.core.fleet.inventory_file import Contents
from appliance.core.fleet.model import Node, Selector
from appliance.core.fleet.selecting import groups, select
from appliance.errors import ApplianceError, ConfigError, ConflictError, NotFoundError, StoreError
from appliance.settingfleet import loop

log = logging.getLogger(__name__)


class Fills(Protocol):
    """Knows more of a machine, from elsewhere (~/.ssh/config)."""

    def fill(self, entry: Entry, names: Mapping[str, str]) -> Node:
        """The machine, with what its entry leaves open. Blocks.

        Args:
            entry: As it is written down.
            names: Names of the inventory's machines, by name and by host.
        """

    def stamp(self) -> object:
        """Another value after it has changed."""


class FleetInventory:
    """Machines of the configuration, and those of a file that actions write. Methods that change something block.

    Args:
        configured: From the configuration.
        path: The file; None for none.
        fills: Fills in what entries leave open; None for nothing.
    """

    def __init__(self, configured: Iterable[Entry | Node] = (), path: Path | None = None, fills: Fills | None = None) -> None:
        given = [each if isinstance(each, Entry) else Entry(each) for each in configured]
        self._configured = {each.node.name: each for each in given}
        self.path, self._fills = path, fills
        self._writing = threading.RLock()
        self._contents = Contents()
        self._stamp: object = None
        self.fault: ApplianceError | None = None
        """Why the file is not used as it stands now; the last good one holds."""
        self._nodes = self._merged(self._contents, filled=False)

    def all(self) -> tuple[Node, ...]:
        """See model.Inventory."""
        return tuple(self._nodes.values())

    def get(self, name: str) -> Node:
        """See model.Inventory."""
        nodes = self._nodes
        if name not in nodes:
            near = difflib.get_close_matches(name, nodes, 1)
            step = f"did you mean {near[0]}?" if near else "add it: `prime-spark fleet add NAME --host ADDRESS`."
            raise NotFoundError(f"There is no machine {name}.", step)
        return nodes[name]

    def select(self, selector: Selector) -> tuple[Node, ...]:
        """See model.Inventory."""
        return select(self._nodes, selector)

    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """See model.Inventory."""
        return groups(self._nodes)

    def load(self) -> bool:
        """Read the file where it is another one than before; whether anything changed. A broken one is told by `fault`."""
        with self._writing:
            stamp = self._looks()
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            try:
                self._take(files.read(self.path) if self.path is not None else Contents())
                self.fault = None
            except (ConfigError, StoreError) as error:
                self.fault = error
                log.error("The inventory stays as it was: %s", error)
                return False
            return True

    def _looks(self) -> object:
        try:
            seen = self.path.stat() if self.path is not None else None
            file = (seen.st_mtime_ns, seen.st_size, seen.st_ino) if seen else None
        except OSError as error:
            file = (error.errno or 0, 0, 0)
        return file, self._fills.stamp() if self._fills is not None else None

    def _take(self, contents: Contents) -> None:
        merged = self._merged(contents)
        for name, node in merged.items():
            if self._nodes.get(name) == node:
                merged[name] = self._nodes[name]
        self._contents, self._nodes = contents, merged

    def _merged(self, contents: Contents, *, filled: bool = True) -> dict[str, Node]:
        """All machines, by name. Raises ConfigError where the two sources contradict each other."""
        if both := sorted(set(contents.entries) & set(self._configured)):
            raise self._wrong(contents, both[0], f"{both[0]} is in the configuration too", "take one of the two away.")
        entries = {**self._configured, **contents.entries}
        names = {each.node.host: name for name, each in entries.items()} | {name: name for name in entries}
        found: dict[str, Node] = {}
        for name in sorted(entries):
            node = self._fills.fill(entries[name], names) if self._fills and filled else entries[name].node
            if name in self._configured:
                node = _over(node, contents)
            found[name] = node
        self._check(contents, found)
        return found

    def _check(self, contents: Contents, nodes: Mapping[str, Node]) -> None:
        for name in contents.entries:
            jump = nodes[name].jump
            if jump and jump not in nodes:
                near = difflib.get_close_matches(jump, nodes, 1)
                step = f"did you mean {near[0]}?" if near else f"add {jump} too, or take the jump away."
                raise self._wrong(contents, name, f"{name} is reached through {jump}, which is no machine here", step, "jump")
        if circle := loop({name: node.jump for name, node in nodes.items()}):
            name = next((each for each in circle if each in contents.entries), circle[0])
            what = f"the jump hosts go round in a circle: {' → '.join(circle)}"
            raise self._wrong(contents, name, what, "take the jump of one of them away.", "jump")

    def _wrong(self, contents: Contents, name: str, what: str, step: str, key: str = "") -> ConfigError:
        if name not in contents.entries:
            return ConfigError(f"[fleet.nodes.{name}]: {what}.", step)
        line = files.line_of(contents.text, ("nodes", name, key) if key else ("nodes", name))
        return ConfigError(f"{self.path}:{line}: {what}.", step)

    def add(self, name: str, values: Mapping[str, Any]) -> Node:
        """Take up a machine. Raises ConflictError, ConfigError, StoreError."""
        with self._writing:
            self.load()
            if name in self._nodes:
                raise ConflictError(
                    f"There is a machine {name} already.", f"`prime-spark fleet change {name} …`, or another name."
                )
            self._write(lambda edit, text: edit.with_node(text, name, values))
        return self.get(name)

    def change(self, name: str, values: Mapping[str, Any]) -> Node:
        """Set fields of a machine; None puts one back to its default. Raises as `add`, and NotFoundError."""
        self._ours(name)
        with self._writing:
            self._write(lambda edit, text: edit.with_node(text, name, values))
        return self.get(name)

    def remove(self, name: str) -> None:
        """Forget a machine. Raises as `change`; ConflictError while others are reached through it."""
        self._ours(name)
        with self._writing:
            through = [each.name for each in self._nodes.values() if each.jump == name]
            if through:
                step = "change how these are reached first."
                raise ConflictError(f"{', '.join(through[:5])}: reached through {name}.", step)
            self._write(lambda edit, text: edit.without_node(text, name))

    def pin(self, name: str, fingerprint: str) -> None:
        """Confirm a machine's host key. Raises as `add`; ConflictError where the configuration has another one."""
        entry = self._configured.get(name)
        if entry is None:
            self.change(name, {"host_key": fingerprint})
            return
        if entry.node.host_key:
            step = f'put the new one there: host_key = "{fingerprint}" under [fleet.nodes.{name}].'
            raise ConflictError(f"The host key of {name} stands in the configuration.", step)
        with self._writing:
            self._write(lambda edit, text: edit.with_value(text, "host_keys", name, fingerprint))

    def set_aside(self, name: str, aside: bool) -> None:
        """Take a machine out of service for us, or back. Raises as `change`."""
        entry = self._configured.get(name)
        if entry is None:
            self.change(name, {"enabled": False if aside else None})
            return
        if not entry.node.enabled:
            raise ConflictError(f"{name} is set aside in the configuration.", f"enabled = true under [fleet.nodes.{name}].")
        with self._writing:
            self._write(lambda edit, text: edit.with_value(text, "maintenance", name, aside or None))

    def _ours(self, name: str) -> None:
        self.get(name)
        if name in self._configured:
            raise ConflictError(f"{name} stands in the configuration.", f"change it there: [fleet.nodes.{name}].")

    def _write(self, change: Callable[[ModuleType, str], str]) -> None:
        from appliance.core.fleet import inventory_edit

        if self.path is None:
            raise StoreError("There is no inventory file here.", "write the machine into the configuration.")
        while True:
            before = self._looks()
            now = files.read(self.path)  # what somebody wrote by hand meanwhile is kept; a broken file is refused
            self._take(now)
            contents = files.parse(self.path, change(inventory_edit, now.text))
            self._merged(contents)
            if self._looks() == before:  # nobody has just saved it
                break
        files.write(self.path, contents.text)
        self._take(contents)
        self._stamp, self.fault = self._looks(), None


def _over(node: Node, contents: Contents) -> Node:
    """A machine of the configuration, with what actions have set besides."""
    if not node.host_key and contents.host_keys.get(node.name):
        node = changed(node, host_key=contents.host_keys[node.name])
    return changed(node, enabled=False) if node.name in contents.aside else node
