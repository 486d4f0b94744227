"""The actions on the settings."""

from __future__ import annotations

import threading
from typing import Any

from appliance.core.actions import ActionRegistry
from appliance.core.catalog import settings
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Role


class NoAudit:
    """Queries leave no row."""

    async def record(self, *_: object) -> None:
        raise AssertionError("a query was audited")


async def test_the_files_are_read_in_a_thread() -> None:
    """Two TOML files on a slow card must not stall the core loop."""
    threads: list[threading.Thread] = []

    def show() -> list[dict[str, Any]]:
        threads.append(threading.current_thread())
        return [{"key": "ssh.port"}]

    async def change(_: str, __: str) -> None: ...

    async def new() -> str:
        return ""

    registry = ActionRegistry()
    registry.add(*settings.actions(show, change, new))
    rows = await Dispatcher(registry, NoAudit()).invoke("config.list", {}, Actor("vic", Role.viewer, "ssh"))
    assert rows == [{"key": "ssh.port"}]
    assert threads[0] is not threading.main_thread()
