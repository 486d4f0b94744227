"""What the keys of the Streams page do."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.core.streams.model import DeadLetter
from appliance.screens import streams_letters as letters
from appliance.screens import streams_rules as rules
from appliance.screens.flows import Flows
from appliance.screens.streams_tail import Tail

if TYPE_CHECKING:
    from appliance.screens.streams import Streams


class Acts:
    """Dialogs and invocations of one Streams page.

    Args:
        page: It.
    """

    def __init__(self, page: Streams) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def _start(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self._flows.start(work, name)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        status = self._page.status
        if panel == "letters":
            self._start(self._letter(key), "letter")
        elif panel == "rules":
            self._start(self._show("Window rule", "rules.show", key), "rule")
        elif status is not None:
            found: list[Any] = [each for each in status.topics if each.name == key]
            found += [each for each in status.groups if f"{each.group}/{each.topic}" == key]
            if found:
                self._start(self._flows.show(key, found[0]), "topic")

    async def _letter(self, key: str) -> None:
        found = await self._page.console.invoke("streams.dead-letter", {"letter_id": key})
        letter = msgspec.convert(msgspec.to_builtins(found), DeadLetter)
        width = max(1, self._page.size.width - 6)
        await self._flows.read(f"Dead letter of {letter.topic}", letters.body_lines(letter, width))

    async def _show(self, title: str, action: str, key: str) -> None:
        await self._flows.show(title, await self._page.console.invoke(action, {"rule_id": key}))

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        flow = {"tail": self._tail, "pause": self._pause, "command": self._command, "replay": self._replay, "all": self._all}[
            what
        ]
        self._start(flow(), what)

    async def _all(self) -> None:
        await self._flows.show("Streams", await self._page.console.invoke("streams.status"))

    async def _tail(self) -> None:
        status, grid = self._page.status, self._page.grid
        named = [each.name for each in status.topics] if status is not None else []
        topic = grid.key.rpartition("/")[2] if self._page.panel in {"topics", "groups"} else ""
        if topic not in named:
            fields = {
                "topic": {"type": "string", "description": "name of the topic", "default": topic or next(iter(named), "")}
            }
            answer = await self._flows.ask("Tail a topic", fields, ["topic"])
            topic = answer["topic"] if answer is not None else ""
        if topic:
            await self._page.app.push_screen_wait(Tail(self._page.console, topic))

    async def _pause(self) -> None:
        status = self._page.status
        if status is not None and status.outbox.paused:
            await self._flows.do("streams.resume", {}, "the outbox sends again")
        else:
            await self._flows.do("streams.pause", {}, "the outbox is paused: events wait, nothing goes out")

    async def _command(self) -> None:
        await self._flows.run("streams.send-command", "Send a signed command")

    async def _replay(self) -> None:
        await self._flows.run("streams.replay", "Replay messages that are kept")

    def settle(self, what: str, which: str) -> None:
        """Send dead letters again, or discard them."""
        if which and self._page.letters:
            self._start(self._settle(what, which), what)

    async def _settle(self, what: str, which: str) -> None:
        many = which == "all"
        told = f"all {len(self._page.letters)} dead letters" if many else "the dead letter"
        if what == "discard":
            text = f"{told[:1].upper()}{told[1:]} and what is in {'them' if many else 'it'} will be gone for ever."
            await self._flows.confirm("streams.discard", "Discard", text, "yes, discard")
            await self._page.console.invoke("streams.discard", {"letter_id": which}, confirm=True)
            self._flows.say(f"{told} {'are' if many else 'is'} discarded", "ok")
        else:
            result = await self._flows.invoke("streams.retry", {"letter_id": which})
            letter = next((each for each in self._page.letters if each.letter_id == which), None)
            self._flows.say(*(letters.retried(result) if many else (letters.retried_one(letter), "ok")))
        self._page.read()

    def rule(self, what: str, key: str) -> None:
        """Add, change, switch, try or remove a rule."""
        if what == "add":
            self._start(self._edit(None), "rule")
            return
        rule = next((each for each in self._page.rules if each["id"] == key), None)
        if rule is None:
            return
        flows = {"edit": self._edit, "switch": self._switch, "try": self._try, "remove": self._remove}
        self._start(flows[what](rule), "rule")

    async def _edit(self, rule: dict[str, Any] | None) -> None:
        status = self._page.status
        topics = [each.name for each in status.topics] if status is not None else []
        enabled = rule is None or bool(rule["enabled"])

        async def submit(values: dict[str, Any]) -> Any:
            return await self._flows.invoke("rules.set", rules.document(values, enabled))

        if not self._flows.may("rules.set"):
            await self._flows.invoke("rules.set", {})
        schema = {"properties": rules.form(rule, topics), "required": list(rules.REQUIRED)}
        done = await self._flows.form("Window rule", schema, submit=submit)
        if done is not None:
            self._flows.say("the rule is set", "ok")
            self._page.read()

    async def _switch(self, rule: dict[str, Any]) -> None:
        verb = "disable" if rule["enabled"] else "enable"
        await self._flows.do(f"rules.{verb}", {"rule_id": rule["id"]}, f"{rule['id']} is {verb}d")
        self._page.read()

    async def _try(self, rule: dict[str, Any]) -> None:
        await self._flows.show(f"Trial of {rule['id']}", await self._page.console.invoke("rules.try", {"rule_id": rule["id"]}))

    async def _remove(self, rule: dict[str, Any]) -> None:
        text = f"The rule {rule['id']} is removed; its open windows are not written."
        await self._flows.confirm("rules.remove", "Remove", text, "yes, remove it")
        await self._page.console.invoke("rules.remove", {"rule_id": rule["id"]}, confirm=True)
        self._flows.say(f"{rule['id']} is removed", "ok")
        self._page.read()
