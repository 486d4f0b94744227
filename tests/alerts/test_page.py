"""The channels on the page Alerts and on the command line, in a whole appliance that tells a real server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appliance import config, paths
from appliance.core.logs import LogRing
from appliance.core.model import Actor, Role
from appliance.core.state import Section
from appliance.errors import NotAuthorizedError
from appliance.runtime import Appliance
from appliance.screens.glyphs import Caps
from tests.alerts.sink import Sink
from tests.screens.conftest import Bench
from tests.support import wait_for

SETTINGS = """
[telemetry]
interval_seconds = 0.5
[alerts.channels.house]
kind = "webhook"
url = "{url}"
[alerts.channels.shout]
kind = "ntfy"
url = "{url}"
topic = "spark"
secret = "ntfy.token"
[alerts.routes.all]
channels = ["house"]
group_wait_seconds = 0
[alerts.rules.memory]
threshold = -1
"""


def state_of(appliance: Appliance, name: str) -> str:
    """What a rule last saw."""
    return next(rule.state.value for rule in appliance.state.get(Section.rules).value if rule.rule == name)


async def test_channels_are_shown_tried_and_their_deliveries_told(home: Path, server: Sink) -> None:
    (home / "config.toml").write_text(SETTINGS.format(url=server.url))
    where = paths.find()
    where.make()
    appliance = Appliance(config.load(where, os.environ), where, LogRing(), dict(os.environ))
    appliance.start([])
    try:
        assert appliance.supervisor is not None
        await appliance.supervisor.settled()
        bench = Bench(appliance)
        await bench.invoke("setup.complete", admin="ada", password="correct horse")
        await wait_for(lambda: any(each.json["receiver"] == "house" for each in server.got), 30)
        seen = bench.open(Caps())
        await seen.press("6", "Channels")
        await seen.shows("house")
        await seen.shows("the secret ntfy.token")
        await seen.press("\t\t", "Channels")
        await wait_for(lambda: seen.app.focused is not None and seen.app.focused.id == "channels")
        await seen.press("t", "200 Said thanks")
        await seen.press("d", "Messages to channels")
        await seen.shows("Test of an alert channel")
        await seen.shows("memory host")
        await seen.end()
        rows: Any = await bench.invoke("alert.channels")
        assert [(each.name, each.health.value) for each in rows] == [("house", "healthy"), ("shout", "absent")]
        routes: Any = await bench.invoke("alert.routes")
        assert (routes[0].route, "memory:host" in routes[0].alerts) == ("all", True)
        await wait_for(lambda: state_of(appliance, "alert-channel") == "ok")
        with pytest.raises(NotAuthorizedError):
            await appliance.dispatcher.invoke("alert.test", {"channel": "house"}, Actor("vic", Role.viewer, "ssh"))
    finally:
        await appliance.stop()
