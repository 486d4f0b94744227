"""Actions on the channels of alerts: how they are, what they delivered, who is told what, and a test."""

from __future__ import annotations

import functools
from typing import Any, Literal

from pydantic import Field

from appliance.core.actions import Action, Invocation, NoParams, Params
from appliance.core.alerts.channels.service import ChannelService
from appliance.core.model import Role


class ChannelName(Params):
    """One channel."""

    channel: str = Field(max_length=63, description="Name of the channel")


class DeliveryQuery(Params):
    """Which deliveries."""

    limit: int = Field(100, ge=1, le=10_000, description="Most rows")
    before: int | None = Field(None, description="Only rows with a lower number")
    channel: str = Field("", max_length=63, description="Only of this channel; empty for all")
    state: Literal["", "waiting", "delivered", "failed", "given up", "merged", "dropped"] = Field(
        "", description="Only in this state; empty for all"
    )


def channel_actions(service: ChannelService) -> list[Action]:
    """Channels: list, test, deliveries, routes."""

    async def channels(_: Invocation, __: NoParams) -> Any:
        return service.channels()

    async def test(call: Invocation, params: ChannelName) -> Any:
        return await service.test(params.channel, call.actor.name)

    async def deliveries(_: Invocation, params: DeliveryQuery) -> Any:
        return await service.deliveries(params.limit, params.channel, params.state, params.before)

    async def routes(_: Invocation, __: NoParams) -> Any:
        return service.routes()

    def brief(found: list[Any]) -> str:
        return "; ".join(f"{each.name} {each.health.value}: {each.reason}" for each in found) or "no channel is configured"

    query = functools.partial(Action, query=True, role=Role.viewer)
    return [
        query("alert.channels", "List the channels that alerts are told by", channels, brief=brief),
        query("alert.deliveries", "List messages to channels, newest first", deliveries, params=DeliveryQuery),
        query("alert.routes", "List which alerts go to which channels", routes),
        Action("alert.test", "Send a test by an alert channel, and show what was answered", test, params=ChannelName,
               positional=("channel",), timeout=200, brief=lambda done: f"{done.channel} answered {done.answer}"),
    ]  # fmt: skip
