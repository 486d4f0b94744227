"""The agents on other machines, put together from settings and spine; a part of the composition root."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.core.agents.watch import AgentsService

if TYPE_CHECKING:
    from appliance.core.agents.depot import Depot
    from appliance.core.ports import Service
    from appliance.runtime import Appliance


@dataclass(frozen=True)
class Agents:
    """The agents.

    Attributes:
        watching: Joins what is known of them.
    """

    watching: AgentsService

    def services(self) -> list[Service]:
        """Those of the agents."""
        return [self.watching]


def build(spine: Appliance) -> Agents:
    """At rest: nothing is contacted."""
    return Agents(AgentsService(spine.state, spine.clock, spine.settings.tasks.lease_seconds))


def depot(spine: Appliance) -> Callable[[], Depot]:
    """Makes what agents are installed from, where it is first used; nothing of it is loaded before."""

    @functools.cache
    def made() -> Depot:
        from appliance.assembly_tasks import task_key
        from appliance.core.agents.depot import Depot
        from appliance.core.agents.setup import PASSWORD
        from appliance.core.tasks.wire import KEY

        def secrets() -> dict[str, str]:
            return {KEY: task_key(spine.secrets), PASSWORD: spine.secrets.text(PASSWORD)}

        def issue(node: str) -> tuple[bytes, bytes]:
            from appliance.core.access.authority import Authority

            return Authority(spine.secrets, spine.clock, spine.settings.node.device_id).client(node)

        return Depot(spine.settings, secrets, spine.state, spine.paths.data / "agents", issue)

    return made
