"""What the keys of the Routing page do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.core.llm.model import EndpointStatus, Strategy
from appliance.screens import routing_view as view
from appliance.screens.dialogs import Choice
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for

if TYPE_CHECKING:
    from appliance.screens.routing import Routing

STRATEGIES = (
    ("e", "edge-first: the house first, the cloud where it does not answer", Strategy.edge_first),
    ("c", "cloud-first: the cloud first, the house where it does not answer", Strategy.cloud_first),
    ("b", "balanced: whoever is expected to be done first", Strategy.balanced),
    ("o", "edge-only: nothing goes to the cloud", Strategy.edge_only),
)
SWITCHES = {"drain": "gets no new requests", "halt": "is left in peace", "resume": "serves again"}
EXPLAINED = ("prompt", "model", "operation", "edge_only", "place", "strategy")


class Acts:
    """Dialogs and invocations of one Routing page.

    Args:
        page: It.
    """

    def __init__(self, page: Routing) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        free = {"strategy": self._strategy, "explain": self._explain, "ledger": self._ledger}
        if what in free:
            self._flows.start(free[what](), what)
            return
        each = self._page.endpoint
        if each is None:
            self._page.say("put the cursor on an endpoint", "warn")
        elif what == "probe":
            self._flows.start(self._probe(each), what)
        else:
            self._flows.start(self._flows.do(f"llm.{what}", {"name": each.name}, f"{each.name} {SWITCHES[what]}"), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        status, glyphs = self._page.status, self._page.spark.glyphs
        if status is None:
            return
        if panel == "endpoints":
            each = next((one for one in status.endpoints if one.name == key), None)
            if each is not None:
                lines = view.endpoint_lines(each, self._page.put_s, glyphs)
                self._flows.start(self._flows.read(f"Endpoint {key}", lines), panel)
            return
        decision = self._page.decision(key)
        if decision is not None:
            self._flows.start(self._flows.read("Decision", view.decision_lines(decision, glyphs)), panel)

    async def _probe(self, each: EndpointStatus) -> None:
        self._page.say(f"looking at {each.name}")
        (found,) = await self._flows.invoke("llm.probe", {"name": each.name})
        self._page.say(f"{each.name}: {found.reason}", "ok" if found.health.value == "healthy" else "warn")

    async def _strategy(self) -> None:
        if not self._flows.may("config.set"):
            await self._flows.invoke("config.set", {"key": "llm.strategy", "value": ""})
        text = "Who is asked first, from the next start on; the power may narrow it."
        answer = await self._page.app.push_screen_wait(
            Choice("Strategy", text, tuple((key, told) for key, told, _ in STRATEGIES))
        )
        wanted = next((strategy for key, _, strategy in STRATEGIES if key == answer), None)
        if wanted is not None:
            args = {"key": "llm.strategy", "value": wanted.value}
            await self._flows.do("config.set", args, f"llm.strategy = {wanted.value} from the next start on")

    async def _explain(self) -> None:
        found = await ask_for(self._page, "llm.route", "Where would a request go? Nothing is sent", EXPLAINED)
        if found is not None:
            await self._flows.show(f"{found.strategy.value}: {found.because}", {
                "asked": [{"endpoint": each.endpoint, "place": each.place, "model": each.model, "why": each.why,
                           "expected_ms": each.expected_ms, "cost": each.cost} for each in found.choices],
                "passed_over": [{"endpoint": each.endpoint, "why": each.why} for each in found.passed],
            })  # fmt: skip

    async def _ledger(self) -> None:
        found = await self._flows.invoke("llm.ledger", {"limit": 200})
        await self._flows.read("What left the house, newest first", view.entry_lines(found["entries"]))
