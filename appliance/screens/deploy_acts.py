"""What the keys of the Deployments page do."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from appliance.core.deploy.model import Deployed
from appliance.errors import ApplianceError
from appliance.screens import deploy_view as view
from appliance.screens.editor import Editor
from appliance.screens.flows import Flows
from appliance.screens.inference_acts import ask_for
from appliance.screens.widgets.lines import Line

if TYPE_CHECKING:
    from appliance.screens.deploy import Deployments

TEMPLATE = """name = "web"
version = "1"
kind = "unit"
replicas = 2
nodes = ["all"]
ports = { first = 18080 }

[unit]
command = "/opt/web/bin/web --port {port}"

[front]
listen = 8080

[health]
kind = "http"
path = "/health"

[rollout]
strategy = "rolling"
"""
"""What the editor begins with where nothing is deployed."""


class Acts:
    """Dialogs and invocations of one Deployments page.

    Args:
        page: It.
    """

    def __init__(self, page: Deployments) -> None:
        self._page = page

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        if what == "apply":
            self._flows.start(self._apply(), what)
            return
        service = self._page.service
        if service is not None:
            flow = {
                "rollback": self._rollback, "pause": self._pause, "scale": self._scale, "endpoints": self._endpoints,
                "history": self._history, "remove": self._remove,
            }[what]  # fmt: skip
            self._flows.start(flow(service), what)

    def open(self, panel: str, key: str) -> None:
        """All of what the cursor is on."""
        service = self._page.service
        if service is None:
            return
        found: Any = service
        if panel == "replicas":
            found = next((each for each in service.replicas if each.replica.replica_id == key), None)
        elif panel == "events":
            found = next((each for each in service.events if str(each.seq) == key), None)
        if found is not None:
            self._flows.start(self._flows.show(panel.capitalize(), found), panel)

    async def _document(self) -> str:
        """Of the chosen service's newest version."""
        service = self._page.service
        if service is None:
            return TEMPLATE
        found = await self._page.console.invoke("deploy.history", {"name": service.name, "limit": 1})
        return str(found.versions[0].document) if found.versions else TEMPLATE

    async def _apply(self) -> None:
        """Edit, see what would be done, do it."""
        if not self._flows.may("deploy.apply"):
            await self._flows.invoke("deploy.apply", {"file": ""})
        document = await self._document()
        while True:
            text = await self._page.app.push_screen_wait(Editor("Deploy", document, is_json=False))
            if text is None:
                return
            document, args = text, {"file": base64.b64encode(text.encode()).decode()}
            try:
                planned = await self._page.console.invoke("deploy.plan", args)
                done = "it is deployed so already: nothing is done"
                if not planned.unchanged:
                    told = "\n".join(f"{at}. {step}" for at, step in enumerate(planned.steps, 1))
                    where = ", ".join(planned.places) or "nowhere: no node answers"
                    title = f"{planned.service} {planned.version}: {planned.strategy}"
                    await self._flows.confirm("deploy.apply", title, f"{told}\n\nTo {where}.", "Deploy")
                    answer = await self._flows.invoke("deploy.apply", args)
                    done = f"{planned.service}: {answer['reason']}"
            except ApplianceError as error:
                lines: list[Line] = [((error.message, "bad"),), ((f"Next: {error.next_step}", "accent"),)]
                await self._flows.read("It is not deployed", lines)
                continue
            self._page.say(done, "ok")
            return

    async def _rollback(self, service: Deployed) -> None:
        told = "the rollout is given up" if view.moving(service) else "an earlier version comes"
        await self._flows.do("deploy.rollback", {"name": service.name}, f"{service.name}: {told}")

    async def _pause(self, service: Deployed) -> None:
        held = service.rollout is not None and bool(service.rollout.rollout.paused_by)
        verb, done = ("resume", "goes on") if held else ("pause", "is held")
        await self._flows.do(f"deploy.{verb}", {"name": service.name}, f"{service.name} {done}")

    async def _scale(self, service: Deployed) -> None:
        title = f"Replicas of {service.name}, now {service.wanted}"
        answer = await ask_for(self._page, "deploy.scale", title, ("replicas",), {"name": service.name})
        if answer is not None:
            self._page.say(f"{service.name}: {answer['replicas']} replicas are wanted", "ok")

    async def _endpoints(self, service: Deployed) -> None:
        found = await self._page.console.invoke("deploy.endpoints", {"name": service.name})
        await self._flows.show(f"Where {service.name} answers", found)

    async def _history(self, service: Deployed) -> None:
        found = await self._page.console.invoke("deploy.history", {"name": service.name, "limit": 20})
        await self._flows.show(f"History of {service.name}", found)

    async def _remove(self, service: Deployed) -> None:
        await self._flows.do("deploy.remove", {"name": service.name}, f"{service.name} is being removed")
