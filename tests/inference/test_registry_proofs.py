"""What serves was proven: each file, on its device, as it lies on the disk; and what cannot be read breaks nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.inference import manifest
from appliance.core.model import Health
from appliance.errors import AbsentError, DiskFullError, ModelError
from appliance.hw.onnx import OnnxAccelerator
from tests.inference.registry_rig import SIDE, Rig, archive, picture, running, write_model, write_onnx
from tests.inference.test_service import ByteDevice
from tests.support import wait_for


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(Rig(tmp_path / "home")) as found:
        yield found


def with_hef(directory: Path) -> Path:
    """A HEF beside the ONNX file; ByteDevice computes the right colours, whatever is in it."""
    (directory / "model.hef").write_bytes(b"compiled")
    digest = hashlib.sha256(b"compiled").hexdigest()
    more = f'kind = "onnx"\n\n[[files]]\npath = "model.hef"\nsha256 = "{digest}"\nkind = "hef"'
    path = directory / "manifest.toml"
    path.write_text(path.read_text().replace('kind = "onnx"', more, 1))
    return directory


def two_devices(tmp_path: Path) -> tuple[Rig, ByteDevice]:
    device = ByteDevice()
    return Rig(tmp_path / "home", accelerators=[device, OnnxAccelerator(1)]), device


async def test_both_files_of_a_version_are_proven_each_on_its_device(tmp_path: Path) -> None:
    rig, device = two_devices(tmp_path)
    async with running(rig):
        with pytest.raises(ModelError, match="self-test"):  # the HEF finds red, the ONNX file blue
            await rig.parts.intake.add(str(with_hef(write_model(tmp_path / "bad", "1", flip=True))))
        await rig.parts.intake.add(str(with_hef(write_model(tmp_path / "good", "1"))))
        assert "on Hailo, ONNX Runtime" in rig.row("1").tested
        await rig.parts.deciding.activate("colours", "1")
        device.stalls = True
        assert (await rig.service.infer(picture(), "a.png")).boxes[0].label == "red"


async def test_a_file_that_could_not_be_tried_does_not_serve_before_it_was(tmp_path: Path) -> None:
    """The HEF is wrong, and its device is away while the version is added and activated."""
    rig, device = two_devices(tmp_path)
    device.stalls = True
    async with running(rig):
        await rig.parts.intake.add(str(with_hef(write_model(tmp_path / "new", "1"))))
        assert "not tried yet" in rig.row("1").tested
        await rig.parts.deciding.activate("colours", "1")
        assert (await rig.service.infer(picture(), "a.png")).backend == "cpu"
        device.stalls, device.turned = False, True
        await wait_for(lambda: rig.service.status().engine.devices[0].health is Health.healthy, 30)
        rig.service.show()
        for number in range(3):
            result = await rig.service.infer(picture(size=80 + number), "a.png")
            assert (result.backend, result.boxes[0].label) == ("cpu", "red")
        assert [told["kind"] for told in rig.told("model.refused")] == ["hef"], "tried once, not for each request"
        device.turned = False
        rig.clock.ahead += 61  # type: ignore[attr-defined]
        assert (await rig.service.infer(picture(size=90), "a.png")).backend == "hailo"


async def test_a_set_up_version_is_proven_at_its_first_use_and_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    write_model(rig.given / "colours", "1", expects="blue")
    async with running(rig):
        for _ in range(2):
            with pytest.raises(ModelError, match="self-test of colours@1 fails"):
                await rig.service.infer(picture(), "a.png")
        assert len(rig.told("model.refused")) == 1
        write_model(rig.given / "colours", "2")
        await rig.parts.registry.scan()
        assert (await rig.service.infer(picture(), "a.png")).model_version == "2"
        assert "self-test on ONNX Runtime" in rig.row("2").tested
    path = rig.given / "colours" / "test.png"
    async with running(Rig(tmp_path / "home")) as rig:
        path.unlink()  # proven in an earlier life: its self-test is not needed again
        assert (await rig.service.infer(picture(), "a.png")).model_version == "2"


async def test_a_file_that_changed_on_the_disk_is_not_loaded_again(rig: Rig) -> None:
    await rig.serve("1")
    assert (await rig.service.infer(picture(), "a.png")).boxes[0].label == "red"
    write_onnx(rig.models / "colours" / "1" / "model.onnx", flip=True)
    device = rig.parts.engine._devices[0]  # type: ignore[attr-defined]
    await device.unload("colours@1")  # as a reset does, or a ninth model
    with pytest.raises(ModelError, match="SHA-256"):
        await rig.service.infer(picture(size=70), "a.png")


async def test_a_loaded_model_does_not_stand_in_for_the_one_on_the_disk(rig: Rig) -> None:
    await rig.serve("1")
    await rig.add("2")
    await rig.service.infer(picture(), "a.png", model="colours@2")  # loaded
    (rig.models / "colours" / "2" / "model.onnx").unlink()
    with pytest.raises(ModelError):
        await rig.parts.deciding.activate("colours", "2")


async def test_a_result_of_another_manifest_is_not_remembered(rig: Rig) -> None:
    await rig.add("1")
    assert (await rig.service.infer(picture(), "a.png", model="colours@1")).boxes[0].label == "red"
    await rig.parts.deciding.remove("colours", "1")
    await rig.parts.intake.add(str(write_model(rig.home / "other", "1", labels=("rouge", "bleu"), expects="rouge")))
    result = await rig.service.infer(picture(), "a.png", model="colours@1")
    assert (result.boxes[0].label, result.cached) == ("rouge", False)


async def test_what_has_no_hash_does_not_help_to_pass(rig: Rig) -> None:
    """The external weights lie in the archive, but the manifest does not name them."""
    source = write_model(rig.home / "new", "1", external=True)
    text = (source / "manifest.toml").read_text()
    begin = text.index('[[files]]\npath = "weights.bin"')
    (source / "manifest.toml").write_text(text[:begin] + text[text.index("[", begin + 9) :])
    path, _ = archive(source, rig.home / "new.tar")
    with pytest.raises(ModelError, match=r"weights\.bin"):
        await rig.parts.intake.add(str(path))


INPUT = {"name": "images", "width": SIDE, "height": SIDE}
UNREADABLE: dict[str, Any] = {
    "not UTF-8": b'name = "\xff"',
    "nested": b"x=" + b"[" * 5000 + b"]" * 5000,
    "large": b"# " + b"x" * (2 << 20),
    "a negative side": {"input": {**INPUT, "width": -5}},
    "a huge side": {"input": {**INPUT, "width": 1_000_000, "height": 1_000_000}},
    "a scale of 0": {"input": {**INPUT, "scale": 0.0}},
    "a deviation of 0": {"input": {**INPUT, "std": [0.0, 1.0, 1.0]}},
    "a huge spectrum": {"sound": {"name": "x", "rate": 16000, "window": 65536, "hop": 65536, "fft": 65536}},
    "no stride": {"decode": {"head": "yolov8", "raw": True, "strides": [0]}},
    "a score that is no number": {"expects": [{"label": "red", "score": float("nan")}]},
    "a control character": {"labels": ["\x1b[31mred", "blue"]},
    "a line feed": {"labels": ["red\n", "blue"]},
    "a line feed in the name": {"name": "colours\n"},
}


@pytest.mark.parametrize("what", UNREADABLE)
async def test_a_manifest_that_cannot_be_is_an_error_of_one_version_alone(tmp_path: Path, what: str) -> None:
    rig, wanted = Rig(tmp_path / "home"), UNREADABLE[what]
    bad = write_model(rig.given / "bad", "7", name="bad", change=wanted if isinstance(wanted, dict) else None)
    if isinstance(wanted, bytes):
        (bad / "manifest.toml").write_bytes(wanted)
    write_model(rig.given / "colours", "1")
    async with running(rig):
        assert (await rig.service.infer(picture(), "a.png")).boxes[0].label == "red"
        assert [bool(row.error) for row in rig.service.status().models] == [True, False]
        with pytest.raises(ModelError) as raised:
            await rig.parts.intake.add(str(bad))
        assert raised.value.next_step


async def test_what_goes_wrong_in_a_library_costs_one_request(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.serve("1")
    task = next(iter(rig.parts.pipeline._tasks.values()), None)
    assert task is None  # the proof left nothing behind
    await rig.service.infer(picture(), "a.png")
    (tasks,) = rig.parts.pipeline._tasks.values()
    for error, told in ((ZeroDivisionError("by zero"), "ZeroDivisionError"), (MemoryError(), "not enough memory")):

        def fails(*_: object, error: BaseException = error) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(tasks["onnx"], "prepare", fails)
            with pytest.raises(ModelError, match=told):
                await rig.service.infer(picture(size=70), "a.png")
    assert (await rig.service.infer(picture(size=70), "a.png")).boxes[0].label == "red"


async def test_callers_of_a_service_that_stops_are_told_and_not_cancelled(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    async with running(rig):
        await rig.serve("1")
        gate, decode = threading.Event(), rig.parts.pipeline._open

        def waits(*wanted: Any) -> Any:
            gate.wait(20)
            return decode(*wanted)

        rig.parts.pipeline._open = waits
        asked = [asyncio.create_task(rig.service.infer(picture(size=40 + each), "a.png")) for each in range(6)]
        await wait_for(lambda: len(rig.parts.pipeline._slots._waiting) >= 3)
        await rig.service.stop()
        gate.set()
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in done} == {AbsentError}


async def test_a_removal_that_the_disk_refuses_leaves_the_version_known(rig: Rig) -> None:
    await rig.add("1")
    (rig.models / ".removed").write_text("in the way")
    with pytest.raises(ModelError, match="cannot be removed"):
        await rig.parts.deciding.remove("colours", "1")
    assert rig.row("1").stage == "Staging"
    (rig.models / ".removed").unlink()
    await rig.parts.deciding.remove("colours", "1")
    await rig.add("1")


async def test_a_set_up_version_serves_also_where_another_one_came_and_went(rig: Rig) -> None:
    await rig.add("1")
    await rig.parts.deciding.remove("colours", "1")
    write_model(rig.given / "colours", "3")
    await rig.parts.registry.scan()
    assert (await rig.service.infer(picture(), "a.png")).model_version == "3"


async def test_only_regular_files_are_copied_and_no_more_than_fits(tmp_path: Path) -> None:
    async with running(Rig(tmp_path / "home", models={"version_max_mib": 1})) as rig:
        for target in ("/dev/zero", "pipe"):
            source = write_model(rig.home / f"new-{target[-4:]}", "1")
            (source / "model.onnx").unlink()
            if target == "pipe":
                os.mkfifo(source / "model.onnx")
            else:
                (source / "model.onnx").symlink_to(target)
            with pytest.raises(ModelError, match="no regular file"):
                await rig.parts.intake.add(str(source))
        large = write_model(rig.home / "large", "1")
        with (large / "test.png").open("ab") as file:
            file.truncate(2 << 20)
        with pytest.raises(ModelError, match="more than 1 MiB"):
            await rig.parts.intake.add(str(large))


async def test_the_spare_room_of_the_disk_is_not_touched(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model(rig.home / "new", "1")
    path, _ = archive(source, rig.home / "new.tar")
    for free, told in ((64 << 20, "stay for everything else"), ((64 << 20) + 100, "may be taken now")):
        monkeypatch.setattr(rig.parts.registry.setup.shelf, "room", lambda free=free: free)
        for origin in (source, path):
            with pytest.raises(DiskFullError, match=told):
                await rig.parts.intake.add(str(origin))
    assert not [each for each in rig.models.rglob("*") if each.is_file()]


def test_what_is_being_added_is_not_found(tmp_path: Path) -> None:
    for place in (".staging/tmp1", "colours/1", "plain"):
        write_model(tmp_path / place, "1")
    assert manifest.find([tmp_path, tmp_path / "none"]) == [tmp_path / "plain", tmp_path / "colours/1"]
