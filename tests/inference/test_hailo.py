"""The Hailo's driver and its unmodified worker, on a stand-in for the vendor's package."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from appliance.core.model import Health
from appliance.errors import DeviceError, DeviceStalledError, ModelError
from appliance.hw import accelerators
from appliance.hw.hailo import utilisation
from tests.inference.hailo_rig import BOXES, SHAPE, Bench, boxes, halves, picture
from tests.support import wait_for_sync


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "bench")
    yield made
    made.end()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_batch_goes_through_shared_memory_and_back(bench: Bench, tmp_path: Path) -> None:
    model = bench.driver().load(str(halves(tmp_path / "net.hef")))
    assert [(spec.name, spec.shape, spec.dtype) for spec in model.inputs] == [("net/input_layer1", (None, *SHAPE), "uint8")]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("net/conv1", (None, *SHAPE)), ("net/fc1", (None, 3))]
    x = picture(count=3)
    halved, means = model.infer({"net/input_layer1": x})
    np.testing.assert_array_equal(halved, x.astype(np.float32) / 2)
    np.testing.assert_allclose(means, np.rint(x.mean(axis=(1, 2))), atol=1)
    again = model.infer({"net/input_layer1": picture(1)})[0]
    np.testing.assert_array_equal(again, picture(1).astype(np.float32) / 2)
    np.testing.assert_array_equal(halved, x.astype(np.float32) / 2)  # the first outputs are copies: nothing overwrites them


def test_more_frames_than_memory_was_set_aside_for(bench: Bench, tmp_path: Path) -> None:
    model = bench.driver().load(str(halves(tmp_path / "net.hef")))
    for count in (1, 20, 2):
        np.testing.assert_array_equal(model.infer({"net/input_layer1": picture(count, count)})[0], picture(count, count) / 2)


def test_float32_with_the_colours_first_and_another_name(bench: Bench, tmp_path: Path) -> None:
    model = bench.driver().load(str(halves(tmp_path / "net.hef")))
    x = picture(2)
    halved, _ = model.infer({"images": x.transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_array_equal(halved, x.astype(np.float32) / 2)
    np.testing.assert_array_equal(model.infer({"images": x})[0], halved)  # and back to bytes


@pytest.mark.parametrize("order", ["HAILO_NMS_BY_CLASS", "HAILO_NMS_BY_SCORE"])
def test_boxes_come_by_class(bench: Bench, tmp_path: Path, order: str) -> None:
    model = bench.driver().load(str(boxes(tmp_path / "net.hef", order)))
    x = np.stack([np.full(SHAPE, 255, np.uint8), np.full(SHAPE, 102, np.uint8)])
    (frames,) = model.infer({"net/input_layer1": x})
    assert [[len(rows) for rows in frame] for frame in frames] == [[1, 0, 2], [1, 0, 2]]
    np.testing.assert_allclose(frames[0][0], BOXES[0, :1])
    np.testing.assert_allclose(sorted(frames[0][2].tolist()), sorted(BOXES[2].tolist()))
    np.testing.assert_allclose(frames[1][0][0, 4], 0.4, rtol=1e-6)


def test_a_multi_context_hef_says_so(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver()
    assert driver.load(str(halves(tmp_path / "net.hef", multi_context=True))).multi_context
    assert not driver.load(str(halves(tmp_path / "net.hef"))).multi_context


def test_several_threads_at_once(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver()
    models = [driver.load(str(halves(tmp_path / f"{number}.hef"))) for number in range(2)]

    def one(seed: int) -> None:
        result = models[seed % 2].infer({"net/input_layer1": picture(seed, 1 + seed % 3)})
        np.testing.assert_array_equal(result[0], picture(seed, 1 + seed % 3) / 2)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(one, range(60)))
    assert len(bench.pids()) == 1


def test_inputs_that_do_not_fit_are_refused_in_words(bench: Bench, tmp_path: Path) -> None:
    model = bench.driver().load(str(halves(tmp_path / "net.hef")))
    with pytest.raises(ModelError, match=r"has shape 1×9×9×3, the HEF takes N×4×6×3"):
        model.infer({"net/input_layer1": np.zeros((1, 9, 9, 3), np.uint8)})
    with pytest.raises(ModelError, match=r"type int64, the HEF takes uint8 or float32"):
        model.infer({"net/input_layer1": np.zeros((1, *SHAPE), np.int64)})
    with pytest.raises(ModelError, match="takes 1 inputs, 2 came"):
        model.infer({"a": picture(), "b": picture()})


def test_a_reading_has_what_the_board_tells(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver()
    assert driver.reading().temperature_c is None  # not opened: it is not asked
    bench.say(temperature=[48.25, 61.5], power=3.25, busy=37.5)
    model = driver.load(str(halves(tmp_path / "net.hef")))
    assert driver.reading().utilisation is None
    model.infer({"net/input_layer1": picture()})
    reading = driver.reading()
    assert (reading.temperature_c, reading.power_w, reading.utilisation) == (61.5, 3.25, 0.375)
    assert (reading.throttled, reading.firmware) == (False, "4.23.0")
    assert driver.about["library"] == "4.23.0"
    assert driver.detect().reason == "HAILO8 firmware 4.23.0, HailoRT 4.23.0"


def test_a_board_without_a_power_sensor_is_asked_once(bench: Bench, tmp_path: Path) -> None:
    bench.say(power=None)
    driver = bench.driver()
    driver.load(str(halves(tmp_path / "net.hef")))
    assert [driver.reading().power_w for _ in range(3)] == [None] * 3
    assert bench.calls().count("power_measurement") == 1


def test_an_old_file_of_the_monitor_counts_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "77abcdef"
    path.write_bytes(b"\x22\x0d\x0a\x02id\x11" + b"\x00" * 6 + b"\x49\x40")
    assert utilisation(tmp_path, 77) == 0.5
    os.utime(path, (time.time() - 60,) * 2)
    assert utilisation(tmp_path, 77) is None
    path.write_bytes(b"\xff\xff")
    assert utilisation(tmp_path, 77) is None


def test_notifications_are_passed_on_and_tell_of_throttling(bench: Bench, tmp_path: Path) -> None:
    heard: list = []
    driver = bench.driver(on_notice=lambda name, facts: heard.append((name, facts)))
    driver.load(str(halves(tmp_path / "net.hef")))
    clock = {"health_monitor_clock_changed_notification": {"previous_clock": 400, "current_clock": 200}}
    heat = {
        "health_monitor_temperature_alarm_notification": {
            "temperature_zone": "RED",
            "ts0_temperature": 99,
            "ts1_temperature": 101,
        }
    }
    bench.say(notices=[["HEALTH_MONITOR_CLOCK_CHANGED_EVENT", clock], ["HEALTH_MONITOR_TEMPERATURE_ALARM", heat]])
    wait_for_sync(lambda: len(heard) == 2)
    assert heard[0] == ("HEALTH_MONITOR_CLOCK_CHANGED_EVENT", {"from": 400, "to": 200})
    assert heard[1] == ("HEALTH_MONITOR_TEMPERATURE_ALARM", {"zone": "RED", "celsius": 101})
    reading = driver.reading()
    assert reading.throttled is True
    assert reading.notices == ("clock changed event: from 400, to 200", "temperature alarm: zone RED, celsius 101")
    assert driver.reading().notices == ()  # told once


@pytest.mark.parametrize("how", ["infer", "infer-deaf"])
def test_a_hang_is_found_within_two_seconds_and_reset_cures_it(bench: Bench, tmp_path: Path, how: str) -> None:
    driver, path = bench.driver(stall_seconds=1.5), str(halves(tmp_path / "net.hef"))
    model = driver.load(path)
    model.infer({"net/input_layer1": picture()})
    (pid,) = bench.pids()
    bench.say(hang=how)
    began = time.monotonic()
    with pytest.raises(DeviceStalledError):
        model.infer({"net/input_layer1": picture()})
    assert time.monotonic() - began < 9  # the benchmark states the time; here only that it is not the device's own
    driver.reset()
    assert "chip_reset" in bench.calls()
    wait_for_sync(lambda: gone(pid))
    np.testing.assert_array_equal(driver.load(path).infer({"net/input_layer1": picture(3)})[0], picture(3) / 2)
    with pytest.raises(DeviceError):
        model.infer({"net/input_layer1": picture()})  # of the process that was killed


def test_all_that_wait_for_one_that_hangs_are_told_so(bench: Bench, tmp_path: Path) -> None:
    model = bench.driver(stall_seconds=1.5).load(str(halves(tmp_path / "net.hef")))
    model.infer({"net/input_layer1": picture()})
    bench.say(hang="infer-deaf")

    def one(seed: int) -> type[Exception] | None:
        try:
            model.infer({"net/input_layer1": picture(seed)})
        except ModelError as error:
            return type(error)
        return None

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(one, range(4))) == {DeviceStalledError}


def test_a_hang_of_the_reading_and_of_the_loading_are_found_too(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, path = bench.driver(stall_seconds=1.0), str(halves(tmp_path / "net.hef"))
    driver.load(path)
    bench.say(hang="reading")
    with pytest.raises(DeviceStalledError, match="reading"):
        driver.reading()
    bench.say(hang="load-deaf")
    monkeypatch.setattr("appliance.hw.hailo.LOAD", 0.5)
    with pytest.raises(DeviceStalledError, match="load"):
        driver.load(path)
    monkeypatch.undo()
    bench.say(hang=None)
    driver.load(path)


def test_a_chip_over_pcie_gets_a_reset_of_its_core_for_it_knows_no_other(bench: Bench) -> None:
    bench.driver().reset()
    assert bench.calls() == ["chip_reset", "nn_core_reset", "open"]
    bench.say(chip_reset=True)
    bench.driver().reset()
    assert bench.calls()[3:] == ["chip_reset", "open"]


def test_a_device_lost_in_a_batch_is_a_device_error(bench: Bench, tmp_path: Path) -> None:
    bench.say(lost_after=2)
    model = bench.driver().load(str(halves(tmp_path / "net.hef")))
    with pytest.raises(DeviceError, match="Failure in hailort driver ioctl") as caught:
        model.infer({"net/input_layer1": picture(count=4)})
    assert "dmesg" in caught.value.next_step
    assert not isinstance(caught.value, DeviceStalledError)


def test_a_process_that_dies_is_started_again(bench: Bench, tmp_path: Path) -> None:
    driver, path = bench.driver(), str(halves(tmp_path / "net.hef"))
    model = driver.load(path)
    (pid,) = bench.pids()
    os.kill(pid, 9)
    with pytest.raises(DeviceError, match="process ended"):
        model.infer({"net/input_layer1": picture()})
    assert driver.load(path).infer({"net/input_layer1": picture()})[0].shape == (1, *SHAPE)


def test_no_card_is_absent_with_the_next_step(bench: Bench, tmp_path: Path) -> None:
    bench.node.unlink()
    driver = bench.driver()
    found = driver.detect()
    assert (found.health, "no /dev/hailo" in found.reason) == (Health.absent, True)
    assert "hailo-all" in found.next_step
    with pytest.raises(DeviceError, match="The Hailo is absent"):
        driver.load(str(halves(tmp_path / "net.hef")))


def test_one_that_is_switched_off_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver(enabled=False)
    assert (driver.detect().health, driver.detect().reason) == (Health.absent, "it is switched off")
    with pytest.raises(DeviceError, match="switched off"):
        driver.load(str(halves(tmp_path / "net.hef")))
    assert bench.calls() == []


def test_the_machine_has_the_hailo_first_and_the_cpu_behind_it(tmp_path: Path) -> None:
    found = accelerators.find(hailo=False, python="", device_id="0", stall_seconds=1.5, threads=1, sysfs=tmp_path)
    assert [(each.backend, each.kind) for each in found] == [("hailo", "hef"), ("cpu", "onnx")]
    zone = tmp_path / "class/thermal/thermal_zone0/temp"
    assert found[1].reading().temperature_c is None
    zone.parent.mkdir(parents=True)
    zone.write_text("61500\n")
    assert (found[1].reading().temperature_c, found[1].reading().throttled) == (61.5, None)


def test_without_the_package_it_is_absent(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver(environ={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
    assert driver.detect().health is Health.healthy
    with pytest.raises(DeviceError, match="No module named 'hailo_platform'"):
        driver.load(str(halves(tmp_path / "net.hef")))
    found = driver.detect()
    assert found.health is Health.absent
    assert "hailo_platform cannot be imported" in found.reason
    assert "hailo-all" in found.next_step


def test_parts_of_different_versions_are_told(bench: Bench, tmp_path: Path) -> None:
    bench.say(version="4.23.0", library="4.20.0")
    with pytest.raises(DeviceError, match=r"_pyhailort version \(4\.20\.0\) does not match pyhailort version \(4\.23\.0\)"):
        bench.driver().load(str(halves(tmp_path / "net.hef")))


@pytest.mark.parametrize(
    ("told", "words"), [({"devices": []}, "not found"), ({"in_use": True}, "another program holds the device")]
)
def test_a_device_that_cannot_be_had(bench: Bench, tmp_path: Path, told: dict, words: str) -> None:
    bench.say(**told)
    with pytest.raises(DeviceError, match=words):
        bench.driver().load(str(halves(tmp_path / "net.hef")))


def test_the_device_is_chosen_by_number_or_address(bench: Bench, tmp_path: Path) -> None:
    bench.say(devices=["0000:01:00.0", "0000:02:00.0"])
    path = str(halves(tmp_path / "net.hef"))
    for wanted, got in (("1", "0000:02:00.0"), ("0000:01:00.0", "0000:01:00.0")):
        driver = bench.driver(device_id=wanted)
        driver.load(path)
        assert driver.about["device"] == got
    driver = bench.driver(device_id="7")
    for _ in range(2):  # not another reason the second time
        with pytest.raises(DeviceError, match=r"There is no device 7; there are 0000:01:00\.0, 0000:02:00\.0") as caught:
            driver.load(path)
        assert "hailo.device_id" in caught.value.next_step


def test_a_hef_of_another_chip_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="compiled for HAILO10H, this device is a HAILO8"):
        bench.driver().load(str(halves(tmp_path / "net.hef", "HAILO10H")))


def test_a_cut_off_hef_is_refused(bench: Bench, tmp_path: Path) -> None:
    path = halves(tmp_path / "net.hef")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelError, match="cut off"):
        bench.driver().load(str(path))
    path.write_bytes(b"\x08\x07 something else altogether, long enough")
    with pytest.raises(ModelError, match="no HEF"):
        bench.driver().load(str(path))


def test_an_unloaded_model_frees_the_device(bench: Bench, tmp_path: Path) -> None:
    model = bench.driver().load(str(halves(tmp_path / "net.hef")))
    model.infer({"net/input_layer1": picture()})
    model.close()
    assert bench.calls()[-1] == "shutdown"


def test_closing_releases_the_device_and_ends_the_process(bench: Bench, tmp_path: Path) -> None:
    driver = bench.driver()
    driver.load(str(halves(tmp_path / "net.hef")))
    (pid,) = bench.pids()
    driver.close()
    assert bench.calls()[-1] == "release"
    wait_for_sync(lambda: gone(pid))
