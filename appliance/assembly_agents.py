"""The agents on other machines, put together from settings and spine; a part of the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.core.agents.watch import AgentsService

if TYPE_CHECKING:
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
