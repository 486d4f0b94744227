"""What the keys of the Power page do."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from appliance.core.power.model import PowerEvent, Setting
from appliance.errors import ApplianceError
from appliance.screens.dialogs import Choice
from appliance.screens.editor import Editor
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.power import Power

MODES = (
    ("a", "auto: as the UPS says", Setting.auto), ("g", "on-grid: as if there were always mains", Setting.on_grid),
    ("o", "off-grid: as if there were never mains", Setting.off_grid),
)  # fmt: skip


class Acts:
    """Dialogs and invocations of one Power page.

    Args:
        page: It.
    """

    def __init__(self, page: Power) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        flow = {
            "mode": self._mode, "simulate": self._simulate, "plan": self._plan, "edit": self._edit, "abort": self._abort,
            "restore": self._restore, "acknowledge": self._acknowledge, "all": self._all,
        }[what]  # fmt: skip
        self._flows.start(flow(), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        status = self._page.status
        if status is None:
            return
        found: object | None = None
        if panel == "upses":
            found = next((each for each in status.upses if each.name == key), None)
        elif panel == "stages" and status.plan is not None:
            found = next((each for each in status.plan.stages if each.name == key), None)
        elif panel == "events":
            events: dict[str, PowerEvent] = {f"{each.time}-{at}": each for at, each in enumerate(status.events)}
            found = events.get(key)
        if found is not None:
            self._flows.start(self._flows.show(panel.capitalize(), found), panel)

    async def _all(self) -> None:
        await self._flows.show("Power", await self._page.console.invoke("power.status"))

    async def _mode(self) -> None:
        if not self._flows.may("power.mode"):
            await self._flows.invoke("power.mode", {"mode": Setting.auto.value})
        text = "How mains and battery are taken. It holds for later starts too."
        keys = tuple((key, told) for key, told, _ in MODES)
        answer = await self._page.app.push_screen_wait(Choice("Mode", text, keys))
        mode = next((setting for key, _, setting in MODES if key == answer), None)
        if mode is not None:
            await self._flows.do("power.mode", {"mode": mode.value}, f"the mode is {mode.value}")

    async def _simulate(self) -> None:
        found = await ask_for(
            self._page, "power.simulate", "What an outage would do; empty: as the UPS says", ("percent", "minutes")
        )
        if found is not None:
            await self._flows.show("Simulated outage: nothing is done", found)

    async def _plan(self) -> None:
        await self._flows.show("Power plan", await self._page.console.invoke("power.plan-show"))

    async def _edit(self) -> None:
        if not self._flows.may("power.plan-set"):
            await self._flows.invoke("power.plan-set", {"file": ""})
        document = (await self._page.console.invoke("power.plan-show"))["document"]
        while True:
            text = await self._page.app.push_screen_wait(Editor("Power plan", document, is_json=False))
            if text is None or text == document:
                return
            try:
                kept = await self._flows.invoke("power.plan-set", {"file": base64.b64encode(text.encode()).decode()})
            except ApplianceError as error:
                told: list[Line] = [((error.message, "bad"),), ((f"Next: {error.next_step}", "accent"),)]
                await self._flows.read("The plan is not taken", told)
                document = text
                continue
            self._flows.say(f"version {kept.version} of the plan counts from the next outage on", "ok")
            return

    async def _abort(self) -> None:
        await self._flows.do("power.plan-abort", {}, "the plan is aborted; nothing further is begun until mains is back")

    async def _restore(self) -> None:
        await self._flows.do("power.restore", {}, "what the plan did is taken back")

    async def _acknowledge(self) -> None:
        await self._flows.do("power.acknowledge", {}, "what was left over is forgotten")
