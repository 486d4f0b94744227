"""Deliveries on a real store to a real server: retries, restarts, a full disk, clocks that jump, floods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from appliance.core.alerts.channels import channel
from appliance.core.alerts.channels.ground import Ground
from appliance.core.alerts.channels.model import DeliveryError, DeliveryState
from appliance.core.alerts.channels.service import ChannelService
from appliance.core.clock import SystemClock
from appliance.core.model import AlertState, Health
from appliance.core.state import LiveState, Section
from appliance.errors import AbsentError, DiskFullError, NotFoundError
from appliance.settingalerts import AlertSettings
from tests.alerts.rig import QUICK, Desk, alert, settings
from tests.alerts.sink import Sink
from tests.support import free_port, wait_for

Make = Callable[[AlertSettings], Awaitable[Desk]]


def hooked(server: Sink, group_by: tuple[str, ...] = ("alertname",), **more: Any) -> AlertSettings:
    return settings(
        channels={"hook": {"kind": "webhook", "url": server.url, **more}},
        routes={"all": {"channels": ["hook"], "group_by": list(group_by), **QUICK}},
    )


def states(got: Sink) -> list[tuple[str, list[str]]]:
    return [(each.json["status"], [one["labels"]["subject"] for one in each.json["alerts"]]) for each in got.got]


async def test_an_alert_is_told_once_and_its_end_too(desk: Make, server: Sink) -> None:
    here = await desk(hooked(server))
    await here.see(alert())
    done = await here.deliver()
    assert done is not None
    assert (done.state, done.attempts, done.answer) == (DeliveryState.delivered, 1, "200 Said thanks")
    assert done.delivered_at == here.clock.wall_now
    await here.see(alert(), seconds=60)
    assert await here.deliver() is None
    await here.see(alert(state=AlertState.resolved, resolved_at=here.clock.wall_now), seconds=60)
    await here.deliver()
    assert states(server) == [("firing", ["host"]), ("resolved", ["host"])]
    assert [each.state for each in await here.records()] == [DeliveryState.delivered] * 2
    assert (here.status().delivered, here.status().health) == (2, Health.healthy)


async def test_a_server_that_fails_is_tried_again_with_the_same_id(desk: Make, server: Sink) -> None:
    server.answer((503, {}, b"later"), (200, {}, b"ok"))
    here = await desk(hooked(server))
    await here.see(alert())
    first = await here.deliver()
    assert first is not None
    assert (first.state, first.attempts, first.answer) == (
        DeliveryState.waiting,
        1,
        f"127.0.0.1:{server.port} answered 503 Said later",
    )
    assert here.clock.wall_now < first.next_try <= here.clock.wall_now + channel.FIRST
    assert (here.status().health, here.status().waiting) == (Health.unhealthy, 1)
    assert await here.deliver() is None  # not yet
    here.clock.move(channel.FIRST)
    second = await here.deliver()
    assert second is not None
    assert (second.state, second.attempts) == (DeliveryState.delivered, 2)
    assert server.got[0].headers["webhook-id"] == server.got[1].headers["webhook-id"] == second.delivery_id
    assert here.status().health is Health.healthy


async def test_a_server_says_when_to_come_again(desk: Make, server: Sink) -> None:
    server.answer((429, {"retry-after": "90"}, b""), (200, {}, b""))
    here = await desk(hooked(server))
    await here.see(alert())
    await here.deliver()
    here.clock.move(89)
    assert await here.deliver() is None
    here.clock.move(1)
    done = await here.deliver()
    assert done is not None
    assert done.state is DeliveryState.delivered


async def test_a_refusal_is_told_and_not_repeated(desk: Make, server: Sink) -> None:
    server.answer((403, {}, b"who are you"))
    here = await desk(hooked(server))
    await here.see(alert())
    done = await here.deliver()
    assert done is not None
    assert done.state is DeliveryState.failed
    here.clock.move(3600)
    assert await here.deliver() is None
    status = here.status()
    assert (status.health, status.failed, status.waiting) == (Health.unhealthy, 1, 0)
    assert "403 Said who are you" in status.reason
    assert "secret" in status.next_step


async def test_what_waits_becomes_one_message_that_has_everything(desk: Make, server: Sink) -> None:
    server.answer((503, {}, b""), (200, {}, b""))
    here = await desk(hooked(server))
    await here.see(alert("node", "x"))
    await here.deliver()
    over = alert("node", "x", AlertState.resolved, resolved_at=here.clock.wall_now)
    await here.see(over, alert("node", "y"), seconds=2)
    here.clock.move(10)
    await here.deliver()
    assert states(server)[-1] == ("firing", ["y", "x"])
    assert [one["status"] for one in server.got[-1].json["alerts"]] == ["firing", "resolved"]
    assert sorted(each.state.value for each in await here.records()) == ["delivered", "merged"]
    assert here.status().merged == 1


async def test_a_restart_goes_on_where_it_was(desk: Make, server: Sink) -> None:
    server.answer((503, {}, b""), (200, {}, b""))
    wanted = hooked(server)
    here = await desk(wanted)
    await here.see(alert())
    await here.deliver()
    after = await here.again()
    assert after.status().waiting == 1
    await after.see(alert(), seconds=1)  # told already: nothing new is made
    await after.deliver()
    assert [each.headers["webhook-id"] for each in server.got] == [server.got[0].headers["webhook-id"]] * 2
    last = await after.again()
    await last.see(alert(state=AlertState.resolved, resolved_at=7.0), seconds=600)
    await last.deliver()
    assert states(server)[-1] == ("resolved", ["host"])
    assert (last.status().delivered, last.status().retries) == (2, 1)
    await last.close()


@pytest.mark.parametrize("jump", [-400 * 86400.0, 400 * 86400.0])
async def test_a_clock_that_jumps_neither_holds_up_nor_repeats(desk: Make, server: Sink, jump: float) -> None:
    server.answer((503, {}, b""), (200, {}, b""))
    here = await desk(hooked(server))
    await here.see(alert())
    await here.deliver()
    here.clock.wall_now += jump
    here.clock.move(channel.FIRST)
    done = await here.deliver()
    assert done is not None
    assert done.state is DeliveryState.delivered
    await here.see(alert(), seconds=60)
    assert await here.deliver() is None


@pytest.mark.parametrize("jump", [-400 * 86400.0, 400 * 86400.0])
async def test_a_clock_that_jumped_while_it_was_off_gives_nothing_up(desk: Make, server: Sink, jump: float) -> None:
    server.answer((503, {}, b""), (200, {}, b""))
    here = await desk(hooked(server))
    await here.see(alert())
    await here.deliver()
    here.clock.wall_now += jump
    after = await here.again()
    done = await after.deliver()
    assert done is not None
    assert done.state is DeliveryState.delivered
    await after.close()


async def test_what_cannot_be_delivered_for_too_long_is_given_up_and_counted(desk: Make, server: Sink) -> None:
    server.answer((503, {}, b""))
    here = await desk(hooked(server))
    await here.see(alert())
    await here.deliver()
    here.clock.move(24 * 3600)
    done = await here.deliver()
    assert done is not None
    assert done.state is DeliveryState.given_up
    assert (here.status().waiting, here.status().dropped) == (0, 1)


async def test_a_full_disk_stops_no_message(desk: Make, server: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    here = await desk(hooked(server))
    write = here.store.write

    async def full(_: Any) -> Any:
        raise DiskFullError("No room to write spark.db.", "free space.")

    monkeypatch.setattr(here.store, "write", full)
    await here.see(alert("disk"))
    done = await here.deliver()
    assert done is not None
    assert states(server) == [("firing", ["host"])]
    status = here.office.status()
    assert "No room" in status.problem
    assert not status.deliveries[0].kept
    assert here.office.health().health is Health.unhealthy
    monkeypatch.setattr(here.store, "write", write)
    await here.see(alert("disk"), seconds=2)
    assert here.office.health().health is Health.healthy
    (record,) = await here.records()
    assert record.state is DeliveryState.delivered
    after = await here.again()
    await after.see(alert("disk"), seconds=2)
    assert after.status().waiting == 0  # it knows what it told
    await after.close()


async def test_a_flood_is_bounded_and_what_goes_is_counted(desk: Make, server: Sink) -> None:
    here = await desk(hooked(server, group_by=("subject",)))
    urgent = alert("battery", "ups", severity="critical")
    await here.see(*(alert("node", f"n{index}") for index in range(channel.WAITING + 50)), urgent)
    status = here.status()
    assert (status.waiting, status.dropped) == (channel.WAITING, 51)
    await here.deliver()
    assert states(server) == [("firing", ["ups"])]  # what is urgent goes first, and is not among those that went
    assert sum(each.state is DeliveryState.dropped for each in await here.records()) == 51


async def test_more_than_so_many_an_hour_wait(desk: Make, server: Sink) -> None:
    here = await desk(hooked(server, group_by=("subject",), per_hour=2))
    await here.see(*(alert("node", f"n{index}") for index in range(4)))
    assert [await here.deliver() is not None for _ in range(3)] == [True, True, False]
    assert here.status().health is Health.degraded
    here.clock.move(3600)
    assert await here.deliver() is not None


async def test_records_have_a_bound(desk: Make, server: Sink) -> None:
    wanted = hooked(server, per_hour=3600)
    here = await desk(AlertSettings.model_validate({**wanted.model_dump(), "deliveries_keep": 10}))
    for index in range(30):
        await here.see(alert("node", f"n{index}"), seconds=2)
        await here.deliver()
    assert len(await here.records()) == 10
    assert here.status().delivered == 30


async def test_one_dead_channel_holds_up_no_other(desk: Make, server: Sink) -> None:
    dead = {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}"}
    here = await desk(settings(
        channels={"dead": dead, "hook": {"kind": "webhook", "url": server.url}},
        routes={"all": {"channels": ["dead", "hook"], **QUICK}},
    ))  # fmt: skip
    await here.see(alert())
    assert (await here.deliver("dead")) is not None
    await here.deliver("hook")
    assert states(server) == [("firing", ["host"])]
    # the alert about the dead one goes out by the other alone, and only once, whatever happens
    lost = alert("alert-channel", "dead")
    for _ in range(20):
        await here.see(alert(), lost, seconds=60)
        await here.deliver("dead")
        await here.deliver("hook")
    assert states(server)[1:] == [("firing", ["dead"])]
    assert here.status("dead").waiting == 1
    assert len(await here.records()) == 3


async def test_a_test_delivers_now_and_tells_the_answer(desk: Make, server: Sink) -> None:
    wanted = hooked(server)
    quiet = {"all": {"begin": "00:00", "end": "00:00", "passes": "nothing"}}
    here = await desk(AlertSettings.model_validate({**wanted.model_dump(), "quiet": quiet}))
    done = await here.office.test("hook", "ada")
    assert (done.state, done.answer, done.why) == (DeliveryState.delivered, "200 Said thanks", "test")
    assert "ada tries the channel hook of pc" in server.got[0].body.decode()
    server.answer((418, {}, b"teapot"))
    with pytest.raises(DeliveryError, match="418 Said teapot"):
        await here.office.test("hook", "ada")
    assert [each.state for each in await here.records()] == [DeliveryState.failed, DeliveryState.delivered]


async def test_quiet_hours_hold_back_until_they_end(desk: Make, server: Sink) -> None:
    wanted = hooked(server)
    quiet = {"night": {"begin": "00:00", "end": "09:00", "time_zone": "UTC"}}
    here = await desk(AlertSettings.model_validate({**wanted.model_dump(), "quiet": quiet}))
    here.clock.wall_now = 20_000 * 86400.0 + 3600
    await here.see(alert(), alert("node", "x", severity="critical"))
    await here.deliver()
    assert await here.deliver() is None
    assert states(server) == [("firing", ["x"])]
    assert here.status().quiet
    await here.see(alert(), seconds=9 * 3600)
    assert await here.deliver() is not None


async def test_without_channels_it_is_absent_and_says_how(desk: Make) -> None:
    here = await desk(settings())
    service = ChannelService(here.office._ground)
    with pytest.raises(AbsentError, match="on the consoles only"):
        await service.start()
    assert service.channels() == []
    with pytest.raises(NotFoundError):
        await service.test("hook", "ada")


async def test_the_service_delivers_by_itself_and_shows_it(desk: Make, server: Sink) -> None:
    here = await desk(settings())
    clock = SystemClock()
    state = LiveState(clock)
    service = ChannelService(Ground(hooked(server), "pc", here.store, here.secrets, state, clock))
    await service.start()
    running = asyncio.create_task(service.run())
    state.put(Section.alerts, (alert(),))
    await wait_for(lambda: len(server.got) == 1)
    await wait_for(lambda: state.get(Section.channels).value.channels[0].delivered == 1)
    assert [each.route for each in service.routes()] == ["all"]
    assert service.routes()[0].alerts == ("cpu:host",)
    assert (await service.deliveries(10, "hook", "delivered", None))[0].channel == "hook"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await service.stop()


async def test_deliveries_of_a_channel_that_is_gone_are_dropped_and_told(desk: Make, server: Sink) -> None:
    server.answer((503, {}, b""))
    here = await desk(hooked(server))
    await here.see(alert())
    await here.deliver()
    after = await here.again(settings(channels={"other": {"kind": "webhook", "url": server.url}}))
    (record,) = await after.records()
    assert record.state is DeliveryState.dropped
    assert "not in the settings any more" in record.answer
    told = await after.store.read(lambda connection: connection.execute("SELECT count(*) FROM alert_told").fetchone()[0])
    assert told == 0
    await after.close()


async def test_a_message_that_only_fails_lets_others_pass(desk: Make, server: Sink) -> None:
    """A server may choke on one message; those behind it must not wait until it is given up."""
    here = await desk(hooked(server))
    await here.see(alert("node", "x", severity="critical"), alert("cpu"))
    server.answer(*[(500, {}, b"choked")] * channel.TURNS, (200, {}, b"ok"))
    for _ in range(channel.TURNS + 1):
        here.clock.move(channel.LONGEST)
        await here.deliver()
    assert [subject for _, (subject,) in states(server)] == ["x"] * channel.TURNS + ["host"]


async def test_a_fault_of_ours_stops_no_channel(desk: Make, server: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    here = await desk(hooked(server))

    async def broken(*_: object) -> str:
        raise KeyError("oh")

    adapter = here.channel()._adapter
    assert adapter is not None
    monkeypatch.setattr(adapter, "send", broken)
    await here.see(alert())
    done = await here.deliver()
    assert done is not None
    assert (done.state, done.answer) == (DeliveryState.waiting, "a fault of the program: KeyError")
    monkeypatch.undo()
    here.clock.move(channel.FIRST)
    again = await here.deliver()
    assert again is not None
    assert again.state is DeliveryState.delivered


@pytest.mark.parametrize("lack", [{"enabled": False}, {"secret": "not.there"}], ids=["disabled", "no secret"])
async def test_what_waits_for_a_channel_that_cannot_send_is_given_up_in_time(
    desk: Make, server: Sink, lack: dict[str, Any]
) -> None:
    here = await desk(hooked(server, **lack))
    await here.see(alert())
    assert await here.deliver() is None
    assert (here.status().health, here.status().waiting) == (Health.absent, 1)
    await here.see(alert(state=AlertState.acknowledged), seconds=24 * 3600 + 1)
    assert [each.state for each in await here.records()] == [DeliveryState.given_up]
    assert here.status().dropped == 1
    assert server.got == []
