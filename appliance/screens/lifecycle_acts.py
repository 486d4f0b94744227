"""What the keys of the Lifecycle page do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.core.lifecycle.backup.model import Snapshot
from appliance.core.state import Section
from appliance.screens import lifecycle_text as view
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.lifecycle_system import elsewhere
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.lifecycle import Lifecycle


OF_IMAGE = frozenset({"check", "install", "back", "restart", "prove"})
"""What there is only where this machine was started from our image."""


class Acts:
    """Dialogs and invocations of one Lifecycle page.

    Args:
        page: It.
    """

    def __init__(self, page: Lifecycle) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        free = {
            "run": self._run, "export": self._export, "key": self._key, "look": self._look, "check": self._check,
            "install": self._install, "back": self._back, "restart": self._restart, "prove": self._prove,
        }  # fmt: skip
        if what in OF_IMAGE and (off := elsewhere(self._page.update, self._page.service("update"))):
            self._page.say(off, "warn")
            return
        if what in free:
            self._flows.start(free[what](), what)
            return
        chosen = self._page.chosen
        if chosen is None:
            self._page.say("put the cursor on a backup; l looks for those at the targets", "warn")
        elif what == "open":
            self._flows.start(self._flows.read(f"Backup {chosen.id}", view.detail(chosen)), what)
        else:
            works = {"verify": self._verify, "restore": self._restore, "forget": self._forget}
            self._flows.start(works[what](chosen), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on in a table."""
        self.do("open")

    async def _check(self) -> None:
        self._page.say("looking at the source of releases", "muted")
        found = await self._flows.invoke("update.check")
        self._page.say(found.said, "ok")

    async def _install(self) -> None:
        status = self._page.update
        told = "it is fetched and written; the next start tries it. Jobs shows how far it is"
        if status is not None and status.newest is not None:
            await self._flows.do("update.install", {"what": status.newest.version}, told)
            return
        answer = await ask_for(self._page, "update.install", "A release, or a bundle on this machine", ("what", "allow_older"))
        if answer is not None:
            self._page.say(told, "ok")

    async def _back(self) -> None:
        found = await self._flows.invoke("update.rollback")
        self._page.say(found["done"], "ok")

    async def _restart(self) -> None:
        await self._flows.do("update.reboot", {}, "this machine starts again")

    async def _prove(self) -> None:
        await self._flows.do("update.verify", {}, "both slots are read again and compared; Jobs shows what came of it")

    async def _run(self) -> None:
        await self._flows.do("backup.run", {}, "a backup is being made, and proved; Jobs shows how far it is")

    async def _look(self) -> None:
        self._page.say("looking at the targets", "muted")
        found = await self._flows.invoke("backup.list")
        self._page.say(f"{len(found)} found", "ok")

    async def _verify(self, chosen: Snapshot) -> None:
        args = {"snapshot": chosen.id, "target": chosen.target}
        await self._flows.do("backup.verify", args, f"{chosen.id} is restored into a scratch directory and compared")

    async def _restore(self, chosen: Snapshot) -> None:
        args: dict[str, Any] = {"source": chosen.id, "target": chosen.target}
        own = (self._page.console.get(Section.setup).value or {}).get("host_name", "")
        if own and chosen.device_id != own:
            text = f"This backup is of {chosen.device_id}. This machine is {own}, and becomes {chosen.device_id}."
            await self._flows.confirm("backup.restore", "A backup of another device", text, "yes, become it")
            args["other_device"] = True
        await self._flows.do("backup.restore", args, "it is fetched and proved; the next start applies it")

    async def _forget(self, chosen: Snapshot) -> None:
        await self._flows.do("backup.forget", {"snapshot": chosen.id, "target": chosen.target}, f"{chosen.id} is removed")

    async def _export(self) -> None:
        title = "A backup in one encrypted file"
        answer = await ask_for(self._page, "backup.export", title, ("file", "passphrase"))
        if answer is not None:
            self._page.say("it is being written and proved; Jobs shows where it is", "ok")

    async def _key(self) -> None:
        found = await self._flows.invoke("backup.key")
        lines: list[Line] = [
            (("Write it down and keep it away from this machine: without it no backup opens.", "warn"),), (),
            ((found.key, "accent"),), (), (("It was asked for in your name; the audit has it.", "muted"),),
        ]  # fmt: skip
        await self._flows.read("Recovery key", lines)
