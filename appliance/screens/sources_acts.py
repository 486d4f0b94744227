"""What the keys of the Sources page do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.core.inference.sources.model import SourceStatus
from appliance.screens import format as f
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for

if TYPE_CHECKING:
    from appliance.screens.sources import Sources

ADDED = ("name", "address", "model", "rate", "schedule", "password")
CHANGED = ("address", "model", "rate", "drop", "schedule", "password")
ZONE = ("zone", "points", "anchor")
RULE = ("rule", "labels", "zone", "seconds", "cooldown", "score", "severity", "snapshot", "clip")


class Acts:
    """Dialogs and invocations of one Sources page.

    Args:
        page: It.
    """

    def __init__(self, page: Sources) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        free = {"add": self._add, "cameras": self._cameras}
        if what in free:
            self._flows.start(free[what](), what)
            return
        source = self._page.source
        if source is not None:
            flow = {
                "switch": self._switch, "snapshot": self._snapshot, "zone": self._zone, "rule": self._rule,
                "change": self._change, "remove": self._remove, "drop_zone": self._drop_zone, "drop_rule": self._drop_rule,
            }[what]  # fmt: skip
            self._flows.start(flow(source), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        source = self._page.source
        if source is None:
            return
        if panel == "sources":
            self._flows.start(self._show(source), "source")
        else:
            found: list[Any] = [each for each in source.events if each.event_id == key]
            found += [each for each in source.tracks if str(each.track_id) == key]
            if found:
                self._flows.start(self._flows.show("Event" if panel == "events" else "Track", found[0]), panel)

    async def _show(self, source: SourceStatus) -> None:
        shown = await self._page.console.invoke("source.show", {"name": source.name})
        definition = shown["definition"]
        zones = [{**zone, "points": f.corners(zone["points"])} for zone in definition["zones"]]
        await self._flows.show(f"Source {source.name}", {**shown, "definition": {**definition, "zones": zones}})

    async def _cameras(self) -> None:
        cameras = await self._page.console.invoke("source.cameras")
        if cameras:
            await self._flows.show("Cameras", cameras)
        else:
            self._page.say("no camera is on this machine; streams, videos, pictures and folders are sources too", "warn")

    async def _add(self) -> None:
        added = await ask_for(self._page, "source.add", "Add a source", ADDED)
        if added is not None:
            self._page.say(f"{added.name} is added: {added.state.value}", "ok")

    async def _ask(
        self, source: SourceStatus, action: str, title: str, fields: tuple[str, ...], done: str, **present: Any
    ) -> None:
        known = {"name": source.name}
        if await ask_for(self._page, action, f"{title} {source.name}", fields, known, present) is not None:
            self._page.say(f"{source.name}: {done}", "ok")

    async def _change(self, source: SourceStatus) -> None:
        shown = await self._page.console.invoke("source.show", {"name": source.name})
        present = {field: shown["definition"][field] for field in CHANGED if field != "password"}
        await self._ask(source, "source.change", "Change", CHANGED, "changed, and begun again", **present)

    async def _zone(self, source: SourceStatus) -> None:
        await self._ask(source, "source.set-zone", "Zone of", ZONE, "the zone is set")

    async def _rule(self, source: SourceStatus) -> None:
        await self._ask(source, "source.set-rule", "Rule of", RULE, "the rule is set")

    async def _drop_zone(self, source: SourceStatus) -> None:
        await self._drop(source, "zone", source.zones)

    async def _drop_rule(self, source: SourceStatus) -> None:
        await self._drop(source, "rule", source.rules)

    async def _drop(self, source: SourceStatus, part: str, there: tuple[str, ...]) -> None:
        if not there:
            self._page.say(f"{source.name} has no {part}", "warn")
            return
        title = f"Remove a {part} ({', '.join(there)}) of"
        await self._ask(source, f"source.remove-{part}", title, (part,), f"the {part} is removed", **{part: there[0]})

    async def _switch(self, source: SourceStatus) -> None:
        verb, done = ("stop", "is stopped") if source.enabled else ("start", "is started")
        await self._flows.do(f"source.{verb}", {"name": source.name}, f"{source.name} {done}")

    async def _snapshot(self, source: SourceStatus) -> None:
        kept = await self._flows.invoke("source.snapshot", {"name": source.name})
        self._page.say(f"kept as {kept['key']}, {kept['width']} x {kept['height']}; 9 Memory has it", "ok")

    async def _remove(self, source: SourceStatus) -> None:
        await self._flows.do("source.remove", {"name": source.name}, f"{source.name} is removed")
