"""The gateway to the language models, put together from settings and spine; a part of the composition root."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from appliance.core.catalog.llm import llm_actions
from appliance.core.llm.service import Ground, LlmService
from appliance.core.observe.models import LlmFigures

if TYPE_CHECKING:
    from appliance.api.app import RestApi
    from appliance.core.actions import Action
    from appliance.core.memory.service import MemoryService
    from appliance.runtime import Appliance


def build(spine: Appliance, memory: MemoryService) -> LlmService:
    """At rest: nothing is loaded, and nobody is contacted."""
    return LlmService(Ground(
        spine.settings.llm, spine.store, spine.secrets, spine.state, spine.clock, lambda: memory.memory,
        LlmFigures(spine.observer.meter),
    ))  # fmt: skip


def actions(service: LlmService) -> list[Action]:
    """All."""
    return llm_actions(service)


def routes(service: LlmService, actor_of: Callable[[Any], Any], allow: Callable[[Any, str], None] | None = None) -> list[Any]:
    """The doors that look like Ollama and OpenAI; none, and nothing loaded, where no endpoint is configured.

    Args:
        service: The gateway.
        actor_of: Tells who sends a request.
        allow: Raises NotAuthorizedError where a token's scopes do not reach an action.
    """
    if not service.settings.all_endpoints():
        return []
    from appliance.api.llm import llm_routes

    return llm_routes(service, actor_of, allow)


def talk_routes(service: LlmService, api: RestApi) -> list[Any]:
    """The appliance's own door that streams; always there, for it says how to configure a model where there is none."""
    from appliance.api.talk import Talk

    return Talk(api, service).routes()
