"""The sources' actions through the dispatcher, as every front uses them; their answers as text; what is written down."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from appliance.core.actions import ActionRegistry
from appliance.core.catalog.sources import source_actions
from appliance.core.dispatch import Dispatcher
from appliance.core.inference.sources.model import SourceState
from appliance.core.metrics import samples
from appliance.core.model import Actor, Device, Health, Role
from appliance.errors import (
    ConfirmationRequiredError,
    ConflictError,
    InvalidArgumentsError,
    NotAuthorizedError,
    NotFoundError,
)
from appliance.verbs import render
from appliance.verbs import sources as verbs
from tests.inference.source_rig import Rig, mjpeg, running, video

OPERATOR, VIEWER = Actor("op", Role.operator, "ssh"), Actor("vic", Role.viewer, "ssh")


class Rows:
    """An audit that the test reads."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    async def record(self, *row: Any) -> None:
        """Keep a row."""
        self.rows.append(row)


class Front:
    """The dispatcher over a rig."""

    def __init__(self, rig: Rig) -> None:
        registry = ActionRegistry()
        registry.add(*source_actions(rig.service, lambda: (Device("camera", "/dev/video0", Health.healthy, "C920"),)))
        self.audit = Rows()
        self.dispatcher = Dispatcher(registry, self.audit)

    async def __call__(self, verb: str, actor: Actor = OPERATOR, /, *, confirm: bool = False, **args: Any) -> Any:
        """Invoke."""
        return await self.dispatcher.invoke(f"source.{verb}", args, actor, confirm=confirm)


async def test_a_source_lives_by_its_actions(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4", 40)
    async with running(tmp_path) as rig:
        front = Front(rig)
        status = await front("add", name="cam", address=str(path), rate=30.0)
        assert (status.kind, status.enabled) == ("video", True)
        await rig.until(lambda status: status.state is SourceState.ended and not status.enabled)
        assert rig.status().inferred == 40, "a file is looked at whole"
        await front("set-zone", name="cam", zone="right", points="0.5,0 1,0 1,1 0.5,1")
        status = await front("set-rule", name="cam", rule="in", labels=["square"], zone="right")
        assert (status.zones, status.rules) == (("right",), ("in",))
        await front("start", name="cam")
        await rig.until(lambda status: status.events_total == 1)
        (event,) = await front("events", VIEWER)
        assert (await front("events", VIEWER, name="other")) == []
        assert event.zone == "right"
        with pytest.raises(InvalidArgumentsError, match="names the zone 'right'"):
            await front("remove-zone", name="cam", zone="right")
        assert (await front("remove-rule", name="cam", rule="in")).rules == ()
        assert (await front("remove-zone", name="cam", zone="right")).zones == ()
        with pytest.raises(NotFoundError, match="has no zone 'right'"):
            await front("remove-zone", name="cam", zone="right")
        assert (await front("stop", name="cam")).state is SourceState.stopped
        assert (await front("start", name="cam")).enabled
        await rig.ended()
        await rig.until(lambda status: not status.enabled)
        assert (await front("change", name="cam", rate=1.0, model="other")).model == "other"
        await front("start", name="cam")
        await rig.until(lambda status: status.state is SourceState.ended and not status.enabled)
        kept = await front("snapshot", name="cam")
        assert kept["key"].startswith("sources:cam/")
        shown = await front("show", VIEWER, name="cam")
        assert shown["definition"]["rate"] == 1.0
        assert [each.name for each in await front("list", VIEWER)] == ["cam"]
        assert (await front("preview", VIEWER, name="cam", columns=20, rows=8, mode="console"))["rows"]
        assert (await front("cameras", VIEWER))[0].name == "/dev/video0"
        with pytest.raises(ConfirmationRequiredError):
            await front("remove", name="cam")
        await front("remove", name="cam", confirm=True)
        assert await front("list", VIEWER) == ()


async def test_a_name_that_is_none_is_refused_with_what_names_are(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        front = Front(rig)
        with pytest.raises(InvalidArgumentsError, match="'Bad Name' is no name; it begins with a letter or digit") as refused:
            await front("add", name="Bad Name", address=str(tmp_path))
        assert "Lower case letters" in refused.value.next_step
        await front("add", name="cam", address=str(tmp_path), stopped=True)
        with pytest.raises(InvalidArgumentsError, match="'A door' is no name"):
            await front("set-zone", name="cam", zone="A door", points="0,0 1,0 1,1")
        with pytest.raises(InvalidArgumentsError, match="'in!' is no name"):
            await front("set-rule", name="cam", rule="in!")


async def test_only_operators_set_sources(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        front = Front(rig)
        for name in ("add", "change", "start", "stop", "remove", "snapshot", "set-zone", "set-rule"):
            with pytest.raises(NotAuthorizedError):
                await front(name, VIEWER, name="cam")


@pytest.mark.parametrize(
    "args",
    [
        {"address": "rtsp://admin:geheim@10.0.0.5/"},
        {"file": base64.b64encode(b'address = "rtsp://admin:geheim@10.0.0.5/"').decode()},
        {"file": base64.b64encode(b'{"address": "http://10.0.0.5/?token=geheim"}').decode()},
        {"file": base64.b64encode(b'password = "geheim"\naddress = "/a"').decode()},
    ],
)
async def test_a_password_in_an_address_is_refused_before_it_is_written_down(tmp_path: Path, args: dict[str, str]) -> None:
    async with running(tmp_path) as rig:
        front = Front(rig)
        with pytest.raises(InvalidArgumentsError) as refused:
            await front("add", name="cam", **args)
        await front.dispatcher.drain(1.0)
        assert "geheim" not in str(refused.value) + repr(front.audit.rows)
        assert base64.b64encode(b"geheim")[:6].decode() not in repr(front.audit.rows)
        assert await rig.book.all() == []


async def test_a_password_is_no_part_of_the_audit(tmp_path: Path) -> None:
    with mjpeg() as camera:
        async with running(tmp_path) as rig:
            front = Front(rig)
            camera.password = "geheim"
            await front("add", name="cam", address=camera.url.replace("//", "//admin@"), password="geheim")
            await rig.until(lambda status: status.inferred > 0)
            assert front.audit.rows
            assert "geheim" not in repr(front.audit.rows)


async def test_a_file_has_everything(tmp_path: Path) -> None:
    document = f"""
address = "{video(tmp_path / "v.mp4")}"
rate = 10
[[zones]]
name = "gate"
points = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]
[[rules]]
name = "someone"
zone = "gate"
labels = ["square"]
"""
    async with running(tmp_path) as rig:
        front = Front(rig)
        status = await front("add", name="cam", file=base64.b64encode(document.encode()).decode(), stopped=True)
        assert (status.zones, status.rules, status.enabled, status.rate) == (("gate",), ("someone",), False, 10.0)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"name": "Cam!", "address": "/a"}, "name"),
        ({"name": "cam", "address": "relative.mp4"}, "whole path"),
        ({"name": "cam", "address": "/a.mp4", "kind": "stream"}, "begins with none of"),
        ({"name": "cam", "address": "http://10.0.0.1/", "kind": "video"}, "kind stream"),
        ({"name": "cam", "address": "http://10.0.0.1/", "drop": "wait"}, "live source"),
        ({"name": "cam", "address": "/a.mp4", "schedule": "someday"}, "no part of a schedule"),
        ({"name": "cam", "address": "/a.mp4", "schedule": "mon 25:00-26:00"}, "no clock shows"),
        ({"name": "cam", "address": "/a.mp4", "rate": 0}, "rate"),
        ({"name": "cam", "address": "/a.jpg", "repeat": True}, "only a video"),
        ({"name": "cam", "address": "/dev/video0", "kind": "picamera"}, "picamera"),
        ({"name": "cam"}, "give an address"),
        ({"name": "cam", "file": base64.b64encode(b"[[[").decode()}, "neither TOML nor JSON"),
        ({"name": "cam", "file": base64.b64encode(b'colour = "red"').decode()}, "colour"),
    ],
)
async def test_what_cannot_be_is_refused_with_what_to_do(tmp_path: Path, args: dict[str, Any], told: str) -> None:
    async with running(tmp_path) as rig:
        with pytest.raises(InvalidArgumentsError) as refused:
            await Front(rig)("add", **args)
        assert told in str(refused.value)
        assert refused.value.next_step
        assert rig.service.statuses() == ()


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ("0.1,0.1 0.9,0.9", "no corners"), ("a b c", "no corners"), ("0.1,0.1 0.5,0.5 0.9,0.9", "no area"),
        ("0,0 1,1 1,0 0,1", "cross each other"), ("0,0 2,0 1,1", "less than or equal to 1"),
    ],
)  # fmt: skip
async def test_a_zone_that_is_none_is_refused(tmp_path: Path, points: str, told: str) -> None:
    async with running(tmp_path) as rig:
        front = Front(rig)
        await front("add", name="cam", address=str(tmp_path / "v.mp4"), stopped=True)
        with pytest.raises(InvalidArgumentsError) as refused:
            await front("set-zone", name="cam", zone="gate", points=points)
        assert told in str(refused.value)


async def test_there_are_only_so_many_and_each_name_once(tmp_path: Path) -> None:
    async with running(tmp_path, most=2) as rig:
        front = Front(rig)
        for name in ("one", "two"):
            await front("add", name=name, address=str(tmp_path / "v.mp4"), stopped=True)
        with pytest.raises(ConflictError, match="2 sources already"):
            await front("add", name="three", address="http://127.0.0.1:9/", password="geheim")
        assert rig.book.password("three") == "", "nothing is left of it"
        with pytest.raises(ConflictError, match="a source one already"):
            await front("add", name="one", address=str(tmp_path / "w.mp4"))
        with pytest.raises(NotFoundError) as missing:
            await front("start", name="tow")
        assert "did you mean two" in missing.value.next_step


async def test_the_answers_as_text(tmp_path: Path) -> None:
    import msgspec

    async with running(tmp_path) as rig:
        front = Front(rig)
        assert "no camera" in str(render.formed(verbs.FORMS, "source.cameras", [], 80, colour=False, nothing=verbs.NOTHING))
        assert "/dev/video0" in str(
            render.formed(
                verbs.FORMS,
                "source.cameras",
                [{"name": "/dev/video0", "health": "healthy"}],
                80,
                colour=False,
                nothing=verbs.NOTHING,
            )
        )
        assert "no sources" in str(render.formed(verbs.FORMS, "source.list", [], 80, colour=False, nothing=verbs.NOTHING))
        await front("add", name="cam", address=str(video(tmp_path / "v.mp4")), stopped=True)
        await front("set-rule", name="cam", rule="any")
        await front("start", name="cam")
        await rig.ended()
        await front("add", name="gone", address=str(tmp_path / "gone.mp4"))
        await rig.until(lambda status: status.state is SourceState.retrying, "gone")

        def text(name: str, value: Any, width: int = 80) -> str:
            return str(
                render.formed(
                    verbs.FORMS, f"source.{name}", msgspec.to_builtins(value), width, colour=False, nothing=verbs.NOTHING
                )
            )

        listed = " ".join(text("list", await front("list")).split())
        assert "cam" in listed
        assert "ended" in listed
        assert "gone: " in listed
        assert "Next: look whether the path is right" in listed
        assert "square #1 0.90" in text("events", await front("events"))
        kept = text("snapshot", await front("snapshot", name="cam"), 200)
        assert "\ninto a file: memory get sources:cam/" in kept
        assert "any" in text("show", await front("show", name="cam"))
        assert "cam" in text("stop", await front("stop", name="cam"))
        named = {sample.name: sample for sample in samples(rig.state) if sample.name.startswith("edge_source")}
        assert named["edge_source_frames_total"].labels
        assert {"edge_source_up", "edge_source_inferred_total", "edge_source_lost_total", "edge_source_events_total"} <= set(
            named
        )
