"""Actions on the settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.model import Role


class Setting(Params):
    """One key and its new value."""

    key: str = Field(max_length=256, description="Key, such as telemetry.interval_seconds")
    value: str = Field(max_length=4096, description="Value, as it would stand in the TOML file")


def actions(
    show: Callable[[], list[dict[str, Any]]],
    write: Callable[[str, str], Awaitable[None]],
    init: Callable[[], Awaitable[str]],
) -> list[Action]:
    """Show and change settings.

    Args:
        show: Every key with value, default, origin and meaning; reads files, and is called in a thread.
        write: Validates a key and its new value and writes the configuration file. Raises ConfigError.
        init: Writes a new configuration file and returns its path. Raises ConfigError.
    """

    async def listing(_: Invocation, __: NoParams) -> list[dict[str, Any]]:
        return await asyncio.to_thread(show)

    async def change(_: Invocation, params: Setting) -> dict[str, Any]:
        await write(params.key, params.value)
        return {"key": params.key, "value": params.value, "takes_effect": "at the next start"}

    async def new(_: Invocation, __: NoParams) -> dict[str, str]:
        return {"file": await init()}

    return [
        Action("config.list", "Show every setting, its value and where that comes from", listing, query=True, role=Role.viewer),
        Action("config.set", "Change a setting in the configuration file", change, params=Setting, role=Role.admin,
               positional=("key", "value")),
        Action("config.init", "Write a configuration file with every key and its meaning", new, role=Role.admin),
    ]  # fmt: skip
