"""The task type task_execution: whichever of the plain types the payload names, for workers that are asked by that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.core.tasks.executor import Handler
from appliance.core.tasks.wire import Order
from appliance.errors import InvalidArgumentsError


class ExecutionHandler:
    """Hands on (implements executor.Handler).

    Args:
        handlers: The plain types.
    """

    name = "task_execution"
    summary = "One of this worker's plain tasks, named by the payload's `do`"

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def available(self) -> bool:
        """See executor.Handler."""
        return any(each.available() for each in self._handlers.values())

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        given = dict(payload) if isinstance(payload, dict) else {}
        handler = self._handlers.get(str(given.pop("do", "")))
        if handler is None or not handler.available():
            able = ", ".join(sorted(name for name, each in self._handlers.items() if each.available()))
            raise InvalidArgumentsError("The payload's `do` names no task of this worker.", f"it does: {able}.")
        return await handler.run(given, order)
