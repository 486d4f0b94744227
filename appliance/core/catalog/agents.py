"""Actions on the agents: our own program on the machines of the fleet."""

from __future__ import annotations

from appliance import __version__
from appliance.core.actions import Action, Invocation, NoParams
from appliance.core.agents.model import AgentsStatus
from appliance.core.catalog.fleet_operations import Desk
from appliance.core.figures import counted
from appliance.core.fleet.model import Inventory
from appliance.core.fleet.operations import kinds
from appliance.core.fleet.operations.service import OperationsService
from appliance.core.model import Role
from appliance.core.state import LiveState, Section

IN_ONE = ("agent.install", "agent.upgrade", "agent.remove")


def agent_actions(service: OperationsService, inventory: Inventory, state: LiveState) -> list[Action]:
    """All of the agents.

    Args:
        service: Carries operations out.
        inventory: Knows the nodes.
        state: Where the agents are shown.
    """
    desk = Desk(service, inventory)

    async def listing(_: Invocation, __: NoParams) -> AgentsStatus:
        found: AgentsStatus | None = state.get(Section.agents).value
        return AgentsStatus(version=__version__) if found is None else found

    def brief(found: AgentsStatus) -> str:
        old = sum(each.outdated for each in found.agents)
        return f"{counted(len(found.agents), 'machine')}, {old} outdated"

    shown = Action(
        "agent.list", "List the agents: version, what they can do, how they are", listing, query=True, role=Role.viewer,
        brief=brief,
    )  # fmt: skip
    return [shown, *(desk.in_one(name, kinds.find(name), ("nodes",)) for name in IN_ONE)]
