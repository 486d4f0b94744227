"""What the keys of the Memory page do with values: show, keep, pin, promote, evict, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from appliance.core.memory.model import EntryStat
from appliance.errors import ApplianceError, InvalidArgumentsError
from appliance.screens import entries
from appliance.screens.flows import Flows
from appliance.screens.forms import FieldError

if TYPE_CHECKING:
    from appliance.screens.memory import Memory


class Acts:
    """Dialogs and invocations of one Memory page.

    Args:
        page: It.
    """

    def __init__(self, page: Memory) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def inspect(self, key: str) -> None:
        """Show a key with its value."""
        self._flows.start(self._inspect(key), "value")

    def do(self, what: str, entry: Mapping[str, Any] | None, namespace: str | None) -> None:
        """One of the page's own keys.

        Args:
            what: add, pin, promote, evict or delete.
            entry: The row under the cursor, as `memory.list` has it.
            namespace: The one that the page shows; None for all.
        """
        if what == "add":
            self._flows.start(self._add(namespace), "add")
        elif entry is not None:
            work = {"pin": self._pin, "promote": self._promote, "evict": self._evict, "delete": self._delete}[what]
            self._flows.start(work(entry), what)

    async def _inspect(self, key: str) -> None:
        page = self._page
        stat = await page.console.invoke("memory.stat", {"key": key})
        width = max(1, page.size.width - 6)
        try:
            value = entries.value_lines(await page.console.invoke("memory.show", {"key": key}), width)
            if not stat.meta.size:
                value = [((" (empty: 0 bytes)", "muted"),)]
        except ApplianceError as error:
            value = [((f" {page.spark.glyphs.bad} {error}", "bad"),)]
        page.read()
        await self._flows.read(key, entries.entry_lines(stat, value, page.statuses))

    async def _add(self, namespace: str | None) -> None:
        if not self._flows.may("memory.set"):  # said before anything is typed
            await self._flows.invoke("memory.set", {})
        schema = {"properties": entries.form(namespace), "required": ["key", "kind", "durability"]}
        kept: dict[str, Any] = {}

        async def submit(typed: dict[str, Any]) -> Any:
            kept.update(typed)
            return await self._keep(typed)

        if await self._flows.form("Keep a value", schema, submit=submit) is not None:
            self._page.say(f"{kept['key']} is kept, durability {kept['durability']}", "ok")
            self._page.read()

    async def _keep(self, typed: Mapping[str, Any]) -> Any:
        args = {name: value for name, value in typed.items() if name not in {"value", "kind"}}
        args["json_text" if typed["kind"] == "json" else "value"] = typed.get("value", "")
        try:
            return await self._flows.invoke("memory.set", args)
        except InvalidArgumentsError as error:
            if "JSON" in error.message:
                raise FieldError("value", str(error)) from error
            raise

    async def _do(self, name: str, args: dict[str, Any], done: str) -> None:
        """Invoke, tell where the key lies now, and read the keys again."""
        result = await self._flows.invoke(name, args)
        held = [copy.tier for copy in result.copies if copy.state == "held"] if isinstance(result, EntryStat) else []
        self._page.say(f"{done}; held by {', '.join(held)}" if held else done, "ok")
        self._page.read()

    async def _pin(self, entry: Mapping[str, Any]) -> None:
        key = entry["key"]
        if entry["pinned"]:
            await self._do("memory.unpin", {"key": key}, f"{key} is not pinned any more")
        else:
            await self._do("memory.pin", {"key": key}, f"{key} is pinned")

    async def _promote(self, entry: Mapping[str, Any]) -> None:
        await self._do("memory.promote", {"key": entry["key"]}, f"{entry['key']} is in every faster tier")

    async def _evict(self, entry: Mapping[str, Any]) -> None:
        tier: str | None = "1"
        if self._flows.may("memory.evict"):  # else the dispatcher says why not
            tier = await self._page.app.push_screen_wait(entries.which_tier(entry["key"], self._page.statuses))
        if tier is not None:
            out = "tier 1" if tier == "1" else "tier 1 and off the disk"
            await self._do("memory.evict", {"key": entry["key"], "tier": int(tier)}, f"{entry['key']} is out of {out}")

    async def _delete(self, entry: Mapping[str, Any]) -> None:
        await self._flows.confirm("memory.delete", "Delete", entries.loss(entry["key"]), "yes, delete it")
        await self._do("memory.delete", {"key": entry["key"]}, f"{entry['key']} is deleted")
