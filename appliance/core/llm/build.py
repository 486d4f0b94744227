"""Makes the gateway from the settings; loads the clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.core.llm.cache import AnswerCache
from appliance.core.llm.gateway import Gateway
from appliance.core.llm.gauge import Gauge
from appliance.core.llm.ledger import Caps, Ledger
from appliance.core.llm.ollama import Ollama
from appliance.core.llm.openai import OpenAi
from appliance.core.llm.switches import Switches
from appliance.core.llm.upstream import Upstream
from appliance.settingllm import LlmEndpoint

if TYPE_CHECKING:
    from appliance.core.llm.service import Ground


async def make_gateway(ground: Ground, power: Callable[[], str | None]) -> Gateway:
    """At rest: nobody is contacted. Raises StoreError where a key cannot be read."""
    settings, clock = ground.settings, ground.clock
    gauges = {}
    for name, wanted in settings.all_endpoints().items():
        key = await asyncio.to_thread(ground.secrets.text, wanted.secret) if wanted.secret else ""
        gauges[name] = Gauge(name, wanted, wanted.url or wanted.folder, upstream(wanted, key), clock)
    caps = Caps(settings.cloud_bytes_per_day, settings.cloud_tokens_per_day, settings.cloud_cost_per_day)
    ledger = Ledger(ground.store, clock, caps, settings.ledger_keep)
    cache = AnswerCache(ground.memory(), settings.cache_seconds)
    return Gateway(gauges, settings, ledger, Switches(ground.store, clock), cache, power, clock)


def upstream(wanted: LlmEndpoint, key: str) -> Upstream:
    """The client of an endpoint."""
    if wanted.kind == "gguf":
        from appliance.core.llm.gguf import CONTEXT, Gguf
        from appliance.core.llm.runner import Runner
        from appliance.core.memory.redis_server import tied_to_us

        context = wanted.context or CONTEXT
        return Gguf(Path(wanted.folder), Runner(wanted.program, context, wanted.limit, tied_to_us()), context)
    house = wanted.place != "cloud"
    if wanted.kind == "ollama":
        return Ollama(wanted.url, key, wanted.limit, house=house)
    return OpenAi(wanted.url, key, wanted.limit, wanted.models, wanted.context, house=house)
