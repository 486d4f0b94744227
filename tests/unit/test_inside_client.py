"""The client inside the appliance: what a command line over SSH asks it for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.core.actions import Action, ActionInfo, ActionRegistry, Invocation
from appliance.core.dispatch import Dispatcher
from appliance.core.model import Actor, Role
from appliance.verbs.client import InsideClient


async def handle(call: Invocation, params: Any) -> None:
    """Do nothing."""


async def test_every_action_is_described_once_for_one_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[str] = []
    real = Action.describe

    def counted(self: Action) -> ActionInfo:
        described.append(self.name)
        return real(self)

    monkeypatch.setattr(Action, "describe", counted)
    registry = ActionRegistry()
    registry.add(Action("a.one", "Do one", handle), Action("b.two", "Do two", handle))
    dispatcher = Dispatcher(registry, audit=None)  # type: ignore[arg-type]
    client = InsideClient(
        dispatcher, asyncio.get_running_loop(), Actor("ada", Role.admin, "ssh"), lambda future: future.result()
    )
    assert [[each.name for each in client.actions()] for _ in range(3)] == [["a.one", "b.two"]] * 3
    assert described == ["a.one", "b.two"]
