"""What the inference service is made of, and what it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from appliance.core.inference.cache import ResultCache
from appliance.core.inference.model import Engine
from appliance.core.inference.pipeline import Pipeline
from appliance.core.inference.registry.deciding import Deciding
from appliance.core.inference.registry.intake import Intake
from appliance.core.inference.registry.proving import Proving
from appliance.core.inference.registry.publishing import Publishing
from appliance.core.inference.registry.registry import Registry
from appliance.core.inference.registry.updating import Updating
from appliance.core.model import InferenceResult
from appliance.core.ports import Clock
from appliance.core.state import LiveState


class LivingEngine(Engine, Protocol):
    """An engine that is started and stopped."""

    async def start(self) -> None:
        """Look for the devices."""

    async def stop(self) -> None:
        """Let go of them."""


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        waiting: Requests of one priority under way at a time.
        deadline: Seconds until an answer, where the caller gives no other time.
        threshold: Lowest score (0…1), where the caller gives no other one.
        max_bytes: Largest file.
        max_pixels: Largest picture.
    """

    waiting: int = 64
    deadline: float = 60.0
    threshold: float = 0.3
    max_bytes: int = 64 * 2**20
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class Parts:
    """What the service works with.

    Attributes:
        on_result: Awaited with each result before it is told; durability lives there.
    """

    engine: LivingEngine
    pipeline: Pipeline
    registry: Registry
    proving: Proving
    deciding: Deciding
    intake: Intake
    updating: Updating
    publishing: Publishing
    cache: ResultCache
    state: LiveState
    clock: Clock
    on_result: Callable[[InferenceResult], Awaitable[None]]
    limits: Limits
