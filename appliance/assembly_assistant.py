"""The assistant, put together from the spine, the memory and the door to the models; a part of the composition root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.core.assistant.service import AssistantService
from appliance.core.catalog.assistant import assistant_actions
from appliance.core.llm.service import HOW

if TYPE_CHECKING:
    from appliance.core.access.sealing import Sealer
    from appliance.core.actions import Action
    from appliance.core.assistant.desk import Desk
    from appliance.core.llm.service import LlmService
    from appliance.core.memory.service import MemoryService
    from appliance.core.model import Actor
    from appliance.runtime import Appliance

KEY = "assistant.key"
"""Secret that seals talks and facts; made at the first use."""


def build(spine: Appliance, memory: MemoryService, llm: LlmService) -> AssistantService:
    """At rest: nothing is loaded, and nobody is asked."""

    def sealer() -> Sealer:
        from appliance.core.access.sealing import Sealer

        return Sealer(spine.secrets.get_or_create(KEY))

    async def confirmed(name: str, args: dict[str, Any], actor: Actor) -> Any:
        return await spine.dispatcher.invoke(name, args, actor, confirm=True)

    def make() -> Desk:
        from appliance.core.assistant.desk import Desk, Ground

        return Desk(Ground(
            spine.settings.assistant, lambda: llm.gateway, spine.registry, confirmed, spine.state, spine.clock,
            spine.settings.node.device_id, lambda: memory.memory, sealer,
        ))  # fmt: skip

    async def gone(user: str) -> bool:
        return all(each.name != user for each in await spine.accounts.users())

    service = AssistantService(make, lambda: bool(llm.settings.all_endpoints()), HOW, gone)
    spine.accounts.listen(service.account_changed)
    return service


def actions(spine: Appliance, service: AssistantService) -> list[Action]:
    """All."""
    return assistant_actions(service, spine.paths.exports)
