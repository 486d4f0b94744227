"""What a Hailo, its library and its process may do besides hanging: load slowly, be another's, talk nonsense, outlive us."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.core.inference.engine import Limits
from appliance.core.inference.model import ModelVersion
from appliance.core.model import Health
from appliance.errors import DeviceError, DeviceStalledError
from appliance.hw import hailo_child
from appliance.hw.hailo_model import _boxes
from appliance.hw.onnx import OnnxAccelerator
from tests.inference.engine_rig import engine, kinds
from tests.inference.hailo_rig import STAND_IN, Bench, halves, picture
from tests.inference.test_engine_hailo import ask, both, check
from tests.inference.test_hailo import gone
from tests.support import wait_for, wait_for_sync

LIMITS = Limits(stall={"hailo": 1.0, "cpu": 60.0}, poll=0.1, probe_first=0.05, probe_longest=0.2, absent_retry=0.2)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "bench")
    yield made
    made.end()


def test_setting_up_for_other_inputs_is_no_stall(bench: Bench, tmp_path: Path) -> None:
    model = bench.driver(stall_seconds=1.0).load(str(halves(tmp_path / "net.hef")))
    bench.say(configure_seconds=2.5)
    x = picture(1)
    np.testing.assert_array_equal(model.infer({"x": x.astype(np.float32)})[0], x / 2)
    assert bench.calls().count("configure") == 2
    model.infer({"x": x.astype(np.float32)})
    assert bench.calls().count("configure") == 2
    assert len(bench.pids()) == 1


@pytest.mark.parametrize("seconds", [1.4, 2.9])
async def test_loading_another_model_is_no_stall_of_the_first(bench: Bench, tmp_path: Path, seconds: float) -> None:
    first, other = both(tmp_path / "first"), both(tmp_path / "other")
    other = ModelVersion(msgspec.structs.replace(other.manifest, name="other"), other.directory)
    async with engine(bench.driver(stall_seconds=1.0), OnnxAccelerator(1), limits=LIMITS) as (made, events):
        await made.load(first)
        check(await made.run(ask(first)))
        configured = bench.calls().count("configure")
        bench.say(configure_seconds=seconds)
        loading = asyncio.create_task(made.load(other))
        await wait_for(lambda: bench.calls().count("configure") > configured)
        answer = await made.run(ask(first, 4))
        check(answer, 4)
        assert (answer.backend, answer.fell_back) == ("hailo", False)
        await loading
        assert "stalled" not in kinds(events)
        assert set(made.status().devices[0].loaded) == {"halves@1", "other@1"}


async def test_a_device_that_another_program_holds_is_not_reset_and_comes_back_when_it_is_free(
    bench: Bench, tmp_path: Path
) -> None:
    model = both(tmp_path / "model")
    bench.say(in_use=True)
    async with engine(bench.driver(), OnnxAccelerator(1), limits=LIMITS) as (made, events):
        assert (await made.run(ask(model))).backend == "cpu"
        await wait_for(lambda: "Attempts to bring it back: 2" in made.status().devices[0].reason, timeout=40)
        status = made.status().devices[0]
        assert status.health is Health.unhealthy
        assert "another program holds the device" in status.reason
        assert set(bench.calls()) == {"open"}
        bench.say(in_use=False)
        await wait_for(lambda: "returned" in kinds(events), timeout=30)
        assert (await made.run(ask(model))).backend == "hailo"


async def test_a_process_that_dies_while_nobody_asks_is_seen(bench: Bench, tmp_path: Path) -> None:
    model = both(tmp_path / "model")
    async with engine(bench.driver(), OnnxAccelerator(1), limits=LIMITS) as (made, events):
        await made.load(model)
        (pid,) = bench.pids()
        os.kill(pid, 9)
        await wait_for(lambda: kinds(events) == ["failed", "returned"], timeout=30)
        assert "process ended" in events[0].reason
        assert (await made.run(ask(model))).backend == "hailo"


def test_a_chip_without_any_reset_is_used_again_in_a_new_process(bench: Bench, tmp_path: Path) -> None:
    driver, path = bench.driver(), str(halves(tmp_path / "net.hef"))
    driver.load(path)
    bench.say(no_core_reset=True)
    driver.reset()
    assert driver.load(path).infer({"x": picture(2)})[0].shape == picture(2).shape
    assert len(bench.pids()) == 3  # the first, the one that tried to reset, and the one that works


def test_the_process_ends_with_the_appliance_even_where_the_library_hangs(bench: Bench, tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(f"""
import os, sys, threading
from pathlib import Path
from appliance.hw.hailo import HailoAccelerator
from tests.inference.hailo_rig import picture
environ = {{**os.environ, "PYTHONPATH": {str(STAND_IN)!r}, "FAKE_HAILO": {str(bench.file)!r}}}
driver = HailoAccelerator(sys.executable, stall_seconds=100, root=Path({str(bench.directory)!r}), environ=environ)
model = driver.load({str(halves(tmp_path / "net.hef"))!r})
print("ready", flush=True)
sys.stdin.readline()
model.infer({{"x": picture()}})
""")
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(program)], env={**os.environ, "PYTHONPATH": root}, cwd=root, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as appliance:  # fmt: skip
        assert appliance.stdout is not None
        assert appliance.stdin is not None
        assert appliance.stdout.readline() == "ready\n"
        (pid,) = bench.pids()
        bench.say(hang="infer-deaf")
        appliance.stdin.write("go\n")
        appliance.stdin.flush()
        wait_for_sync(lambda: "infer-deaf" in bench.calls())
        appliance.kill()
    wait_for_sync(lambda: gone(pid))


def test_nonsense_from_the_process_ends_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import socket, sys, time\n"
        "sock = socket.socket(fileno=int(sys.argv[1]))\n"
        'sock.send(b\'{"event": "hello", "library": "4.23.0"}\')\n'
        "sock.recv(65536)\n"
        "sock.send(b'\\xff no message')\n"
        "time.sleep(100)\n"
    )
    monkeypatch.setattr(hailo_child, "WORKER", worker)
    child = hailo_child.Child(sys.executable, os.environ, lambda *_: None)
    assert child.hello()["library"] == "4.23.0"
    began = time.monotonic()
    with pytest.raises(DeviceError, match="said what cannot be read") as caught:
        child.ask("load", 100, slow=True)
    assert not isinstance(caught.value, DeviceStalledError)
    assert time.monotonic() - began < 50
    wait_for_sync(lambda: gone(child.pid))
    child.kill()


def test_a_sensor_that_fails_once_is_asked_again(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver()
    driver.load(str(halves(tmp_path / "net.hef")))
    assert driver.reading().power_w == 2.5
    bench.say(power=None)
    assert driver.reading().power_w is None
    bench.say(power=3.0)
    assert driver.reading().power_w == 3.0


def test_it_is_throttled_until_its_clock_is_what_it_was(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver()
    driver.load(str(halves(tmp_path / "net.hef")))
    steps = [(400, 100), (100, 200), (200, 400)]
    for number, throttled in enumerate((True, True, False), 1):
        bench.say(
            notices=[
                [
                    "HEALTH_MONITOR_CLOCK_CHANGED_EVENT",
                    {"health_monitor_clock_changed_notification": {"previous_clock": before, "current_clock": now}},
                ]
                for before, now in steps[:number]
            ]
        )
        wait_for_sync(lambda: driver.reading().notices)
        assert driver.reading().throttled is throttled


def test_a_missing_package_is_found_when_it_is_there_and_not_before(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "site"
    environ = {**os.environ, "PYTHONPATH": str(place), "FAKE_HAILO": str(bench.file)}
    driver, path = bench.driver(environ=environ), str(halves(tmp_path / "net.hef"))
    with pytest.raises(DeviceError, match="No module named 'hailo_platform'"):
        driver.load(path)
    starts: list[int] = []
    plain = driver._begin
    monkeypatch.setattr(driver, "_begin", lambda: starts.append(1) or plain())  # type: ignore[func-returns-value]
    assert driver.detect().health is Health.absent
    assert not starts, "it was tried a moment ago"
    driver._missing = (driver._missing[0], time.monotonic())
    assert driver.detect().health is Health.absent, "that time has passed makes no package"
    wait_for_sync(lambda: driver._missing[1] > time.monotonic())
    assert (driver.detect().health, len(starts)) == (Health.absent, 1)
    place.symlink_to(STAND_IN)
    driver._missing = (driver._missing[0], time.monotonic())
    wait_for_sync(lambda: driver.detect().health is Health.healthy)
    assert driver.load(path).infer({"x": picture()})[0].shape == picture().shape


def test_without_the_systems_python_the_appliances_own_is_tried(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver(python="")
    driver._pythons = [str(tmp_path / "no-python"), sys.executable]
    driver.load(str(halves(tmp_path / "net.hef")))
    assert driver.about["python"] == sys.executable
    other = bench.driver(python=str(tmp_path / "no-python"))
    with pytest.raises(DeviceError, match="no-python cannot be run: No such file or directory"):
        other.load(str(halves(tmp_path / "net.hef")))


@pytest.mark.parametrize("count", [float("nan"), -1.0, 3.0, 1e9])
def test_boxes_whose_counts_are_none_blame_the_device(count: float) -> None:
    numbers = np.zeros(2 * (1 + 5 * 2), np.float32)
    assert [len(rows) for rows in _boxes(numbers, 2)] == [0, 0]
    numbers[0] = 2
    assert [len(rows) for rows in _boxes(numbers, 2)] == [2, 0]
    numbers[0] = count
    with pytest.raises(DeviceError, match="counts are wrong"):
        _boxes(numbers, 2)
