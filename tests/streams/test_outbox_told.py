"""What the outbox tells of itself: its health, and its counts, are true while things go wrong."""

from __future__ import annotations

from pathlib import Path

from appliance.core.model import Health
from tests.streams.outbox_rig import Rig, running
from tests.support import wait_for


async def test_health_is_degraded_while_nothing_goes_out_though_the_link_is_up(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        assert (await rig.outbox.health()).health is Health.healthy
        rig.broker.up = False  # a topic without a leader, a missing right: the link itself stays up
        rig.outbox.link(True)
        await rig.put("note", *range(50))
        await wait_for(lambda: rig.outbox._sender.down)
        report = await rig.outbox.health()
        assert report.health is Health.degraded
        assert "No broker answers" in report.reason
        assert "50 events" in report.reason
        assert report.next_step == "look at the network."
        rig.up()
        await rig.drained()
        assert (await rig.outbox.health()).health is Health.healthy


async def test_health_is_degraded_while_paused(tmp_path: Path) -> None:
    async with running(Rig(tmp_path)) as rig:
        await rig.outbox.pause()
        await rig.put("note", *range(3))
        report = await rig.outbox.health()
        assert report.health is Health.degraded
        assert "paused: 3 events" in report.reason
        assert "resume" in report.next_step
        await rig.outbox.resume()
        await rig.drained()
        assert (await rig.outbox.health()).health is Health.healthy
