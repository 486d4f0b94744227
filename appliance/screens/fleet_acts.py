"""What the keys of the pages of machines do: on the marked ones, or on the one under the cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from appliance.core.fleet.model import NodeStatus
from appliance.core.fleet.operations.model import OperationStatus
from appliance.core.model import Role
from appliance.screens import fleet_calls as calls
from appliance.screens.dialogs import Choice
from appliance.screens.fleet_keys import FIELDS
from appliance.screens.fleet_words import several, to_compare
from appliance.screens.flows import DeclinedError, Flows
from appliance.screens.forms import Done
from appliance.screens.inference_acts import ask_for
from appliance.screens.page import Page
from appliance.screens.picking import Pick
from appliance.screens.remote_shell import open_shell

if TYPE_CHECKING:
    from appliance.screens.fleet import Fleet

Back = Callable[[], Page]
"""Makes the page that Esc leads to."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
MANY = 250
"""Machines above which all are meant."""


class Machines(Protocol):
    """A page on which machines are chosen."""

    def chosen(self) -> list[str]:
        """Names of those that the next command is for."""

    @property
    def under(self) -> str:
        """Name of the one under the cursor; empty where none is."""

    def named(self, name: str) -> NodeStatus | None:
        """One of them."""

    def again(self) -> Back:
        """Makes the same page anew, as the reader looks at it."""


class Work:
    """Operations and the like on the machines that are chosen on a page.

    Args:
        page: It.
        machines: The same page.
    """

    def __init__(self, page: Page, machines: Machines) -> None:
        self.page = page
        self.machines = machines

    @property
    def flows(self) -> Flows:
        """The session's."""
        return self.page.spark.flows

    def start(self, what: str) -> bool:
        """Start what a key stands for; False where it is none of these."""
        several_of = {
            "run": self._run, "plan": self._any, "upgrade": self._upgrade, "reboot": self._reboot, "service": self._service,
            "maintenance": self._maintenance, "refresh": self._refresh,
        }  # fmt: skip
        one_of = {"shell": self._shell, "trust": self._trust, "change": self._change, "remove": self._remove}
        names, under = self.machines.chosen(), self.machines.under
        if what in several_of and names:
            self.flows.start(several_of[what](names), what)
        elif what in one_of and under:
            self.flows.start(one_of[what](under), what)
        return what in several_of or what in one_of

    async def plan(self, kind: str, names: Sequence[str], arguments: Mapping[str, Any] = NOTHING) -> None:
        """Look at the machines and show what would change there; y carries it out."""
        self.page.say(f"looking at {several(names)}")
        await self.look_at(await self.flows.invoke("fleet.plan", calls.planned(kind, names, arguments)))

    async def look_at(self, answer: Any) -> None:
        """To the page of an operation."""
        from appliance.screens.operations import Operations

        status = msgspec.convert(msgspec.to_builtins(answer), OperationStatus)
        await self.page.spark.open_page(Operations(self.page.console, status.operation_id, self.machines.again()))

    async def _run(self, names: list[str]) -> None:
        fields = ("command", "sudo", "canary", "soak", "limit")
        title = f"Run a command on {several(names)}"
        answer = await ask_for(self.page, "fleet.run", title, fields, calls.on(names))
        if answer is not None:
            await self.look_at(answer)

    async def _any(self, names: list[str]) -> None:
        """One of the kinds of operations, picked from a list, its arguments asked for."""
        page = self.page
        kinds = {each["kind"]: each for each in await page.console.invoke("fleet.operation-kinds")}
        offered = [(name, each["summary"]) for name, each in kinds.items() if Role(each["role"]) <= page.console.actor.role]
        picked = await page.spark.push_screen_wait(Pick(f"What to do on {several(names)}", offered))
        if not picked:
            return
        (kind,) = picked
        asked = kinds[kind]["parameters"]
        given = await self.flows.form(f"{kinds[kind]['summary']}: {several(names)}", asked) if asked["properties"] else Done({})
        if given is not None:
            await self.plan(kind, names, given.result)

    async def _upgrade(self, names: list[str]) -> None:
        await self.plan("packages.upgrade", names)

    async def _reboot(self, names: list[str]) -> None:
        await self.plan("reboot", names)

    async def _service(self, names: list[str]) -> None:
        """Restart one of the services that the machines are expected to run, or that is typed."""
        known = sorted({each.name for name in names if (node := self.machines.named(name)) for each in node.expected})
        units = [name for name in known if ":" not in name]
        asked = {"unit": {"type": "string", "default": "".join(units[:1]), "description": "such as nginx.service"}}
        intro = [f"Expected there: {', '.join(units)}"] if units else []
        given = await self.flows.ask(f"Restart a service on {several(names)}", asked, ["unit"], intro)
        if given is not None:
            await self.plan("service.restart", names, given)

    async def _trust(self, name: str) -> None:
        """Show the fingerprints that it shows, and how to compare them; only then take one."""
        self.page.say(f"asking {name} for its host keys")
        keys = await self.page.console.invoke("fleet.trust", calls.one(name))
        if keys["trusted"]:
            self.page.say(f"{name} shows the key that is trusted: {keys['confirmed']}", "ok")
            return
        shown = dict(enumerate(sorted(keys["shows"].items(), key=lambda each: "ed25519" not in each[0]), 1))
        offered = [(str(at), f"{print_} {kind}") for at, (kind, print_) in shown.items()]
        answer = await self.page.spark.push_screen_wait(Choice(f"Trust {name}", to_compare(name, keys["confirmed"]), offered))
        if answer is None:
            raise DeclinedError
        kind, fingerprint = shown[int(answer)]
        args = calls.one(name, fingerprint=fingerprint, replace=bool(keys["confirmed"]))
        await self.flows.do("fleet.trust", args, f"{name} is known by this {kind} key from now on")

    async def _change(self, name: str) -> None:
        node = self.machines.named(name)
        if node is None:
            return
        entry, present = node.node, msgspec.json.decode(msgspec.json.encode(node.node))
        if entry.origin == "configuration":
            self.page.say(f"{entry.name} stands in the configuration file: change it there", "warn")
            return
        known: dict[str, Any] = {field: present[field] for field in FIELDS}
        known["tags"] = [f"{key}={value}" for key, value in entry.tags.items()]
        title = f"Change {entry.name}"
        if await ask_for(self.page, "fleet.change", title, FIELDS, calls.one(entry.name), present=known) is not None:
            self.page.say(f"{entry.name} is changed", "ok")

    async def _maintenance(self, names: list[str]) -> None:
        """Set aside those that are watched; where all are set aside, take them back."""
        nodes = [node for name in names if (node := self.machines.named(name)) is not None]
        aside = any(node.node.enabled for node in nodes)
        text = f"Nothing contacts {several(names)} until m takes them back: no look, no alert, no operation."
        if aside:
            await self.flows.confirm("fleet.maintenance", "Set aside", text, "yes, set aside")
        for name in names:
            await self.flows.invoke("fleet.maintenance", calls.one(name, off=not aside))
        self.page.say(f"{several(names)}: {'set aside, nothing contacts it' if aside else 'taken back'}", "ok")

    async def _refresh(self, names: list[str]) -> None:
        self.page.say(f"reading {several(names)} again")
        wanted = names if len(names) <= MANY else []  # none named: all of them
        await self.flows.do("fleet.refresh", calls.on(wanted), f"{several(names)}: read again")

    async def _remove(self, name: str) -> None:
        await self.flows.do("fleet.remove", calls.one(name), f"{name} is removed from the inventory")

    async def _shell(self, name: str) -> None:
        await open_shell(self.page, name)


class Acts:
    """Dialogs and invocations of the Fleet page.

    Args:
        page: It.
    """

    def __init__(self, page: Fleet) -> None:
        self._page = page
        self._work = Work(page, page)

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        flows = self._page.spark.flows
        if what == "add":
            flows.start(self._add(), what)
        elif what == "operations":
            flows.start(self._operations(""), what)
        else:
            self._work.start(what)

    def open(self, table: str, key: str) -> None:
        """To the page of a machine, or of an operation."""
        flows = self._page.spark.flows
        if table == "operations":
            flows.start(self._operations(key), "operations")
        elif self._page.named(key) is not None:
            flows.start(self._node(key), "node")

    async def _node(self, name: str) -> None:
        from appliance.screens.node import Node

        await self._page.spark.open_page(Node(self._page.console, name, self._page.again()))

    async def _operations(self, operation_id: str) -> None:
        from appliance.screens.operations import Operations

        await self._page.spark.open_page(Operations(self._page.console, operation_id, self._page.again()))

    async def _add(self) -> None:
        added = await ask_for(self._page, "fleet.add", "Add a machine", ("node", *FIELDS))
        if added is not None:
            name = added["node"]
            self._page.choose(name)
            self._page.say(f"{name} is added; as soon as it answers, y shows its host key to compare", "ok")
