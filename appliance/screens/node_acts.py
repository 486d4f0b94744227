"""What the keys of one machine's page do."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from appliance.core.fleet.operations.model import OperationStatus
from appliance.screens import fleet_calls as calls
from appliance.screens import node_services as services
from appliance.screens.fleet_acts import Back, Work
from appliance.screens.flows import Flows
from appliance.screens.operations_output import Follow

if TYPE_CHECKING:
    from appliance.screens.node import Node


COMPOSE = MappingProxyType({"start": "up", "stop": "down"})
"""Verb → what it is called for a compose project."""
FOLLOWED = 86400.0
"""Seconds for which a log is followed at most."""


class Acts:
    """Dialogs and invocations of one machine's page.

    Args:
        page: It.
        back: Makes the page that Esc leads to; the Fleet page without.
    """

    def __init__(self, page: Node, back: Back | None) -> None:
        self._page = page
        self._back = back
        self._work = Work(page, page)

    @property
    def back(self) -> Back | None:
        """Makes the page that Esc leads to."""
        return self._back

    @property
    def _flows(self) -> Flows:
        return self._page.spark.flows

    def do(self, what: str) -> None:
        """One of the page's own keys."""
        if what == "back":
            self._flows.start(self._leave(), what)
        elif what in {"restart", "start", "stop"}:
            self._flows.start(self._service(what), what)
        elif what == "logs":
            self._flows.start(self._logs(self._page.row), what)
        elif what in {"above", "put", "get"}:
            self._page.folder.do(what)
        else:
            self._work.start(what)

    def open(self, panel: str, key: str) -> None:
        """Logs of a service, a folder or a file, an operation."""
        if panel == "services":
            self._flows.start(self._logs(key), "logs")
        elif panel == "files":
            self._page.folder.choose(key)
        elif panel == "history":
            self._flows.start(self._operation(key), "operation")

    async def _leave(self) -> None:
        page = self._page.spark
        await page.open_page(self._back() if self._back is not None else page.make_page("fleet"))

    async def _operation(self, operation_id: str) -> None:
        from appliance.screens.operations import Operations

        await self._page.spark.open_page(Operations(self._page.console, operation_id, self._page.again()))

    async def _service(self, verb: str) -> None:
        """Start, stop or restart what is under the cursor: planned first, as everything is."""
        found = services.target(self._page.row)
        if found is None:
            self._page.say("put the cursor on a unit, a container or a compose project, in the panel Services", "warn")
            return
        noun, arguments = found
        verb = COMPOSE.get(verb, verb) if noun == "compose" else verb
        await self._work.plan(f"{noun}.{verb}", [self._page.name_of], arguments)

    async def _logs(self, key: str) -> None:
        """What a service writes; it is followed until the reader leaves."""
        found, name = services.target(key), self._page.name_of
        if found is None:
            self._page.say("put the cursor on a unit, a container or a compose project, in the panel Services", "warn")
            return
        noun, arguments = found
        answer = await self._flows.invoke(f"fleet.{noun}-logs", calls.on([name], **arguments, follow=True, limit=FOLLOWED))
        status = msgspec.convert(msgspec.to_builtins(answer), OperationStatus)
        title = f"{name}: {next(iter(arguments.values()))}"
        await self._page.spark.push_screen_wait(Follow(self._page.console, status.operation_id, name, title, stop=True))
