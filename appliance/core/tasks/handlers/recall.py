"""The task type memory_management: keep, read, forget and move values of the tiered memory."""

from __future__ import annotations

import base64
from typing import Any, Literal, Protocol

from appliance.core.tasks.handlers.forms import Form, read
from appliance.core.tasks.wire import Order
from appliance.errors import InvalidArgumentsError, NotFoundError


class Values(Protocol):
    """What the handler needs of the memory."""

    async def get(self, key: str, namespace: str = ..., default: Any = None) -> Any:
        """A value."""

    async def set(self, key: str, value: Any, *, namespace: str = ..., ttl: float | None = None) -> Any:
        """Keep one."""

    async def delete(self, key: str, namespace: str = ...) -> bool:
        """Forget one."""

    async def flush(self) -> None:
        """Bring what waits to the disk."""

    async def promote(self, key: str, namespace: str = ...) -> Any:
        """Into the first tier."""

    async def evict(self, key: str, namespace: str = ...) -> Any:
        """Out of the first tier."""


class Wanted(Form, frozen=True, kw_only=True):
    """What is to be done with which value."""

    do: Literal["get", "set", "delete", "flush", "promote", "evict"]
    key: str = ""
    namespace: str = "default"
    value: Any = None
    ttl: float | None = None


class MemoryHandler:
    """Works on values (implements executor.Handler).

    Args:
        memory: They.
    """

    name = "memory_management"
    summary = "Get, set, delete, promote, evict or flush values of the memory"

    def __init__(self, memory: Values) -> None:
        self._memory = memory

    def available(self) -> bool:
        """See executor.Handler."""
        return True

    async def run(self, payload: Any, order: Order) -> Any:
        """See executor.Handler."""
        del order
        wanted = read(Wanted, payload, self.name)
        if wanted.do == "flush":
            await self._memory.flush()
            return {"flushed": True}
        if not wanted.key:
            raise InvalidArgumentsError(f"{wanted.do} needs a key.", "give key, and namespace where it is another one.")
        match wanted.do:
            case "get":
                return self._found(wanted, await self._memory.get(wanted.key, wanted.namespace))
            case "set":
                await self._memory.set(wanted.key, wanted.value, namespace=wanted.namespace, ttl=wanted.ttl)
            case "delete":
                return {"deleted": await self._memory.delete(wanted.key, wanted.namespace)}
            case "promote":
                await self._memory.promote(wanted.key, wanted.namespace)
            case "evict":
                await self._memory.evict(wanted.key, wanted.namespace)
        return {"key": wanted.key, "namespace": wanted.namespace, "done": wanted.do}

    def _found(self, wanted: Wanted, value: Any) -> dict[str, Any]:
        if value is None:
            raise NotFoundError(f"The memory has no {wanted.key!r} in {wanted.namespace!r}.", "see `prime-spark memory list`.")
        if isinstance(value, bytes):
            return {"key": wanted.key, "base64": base64.b64encode(value).decode()}
        return {"key": wanted.key, "value": value}
