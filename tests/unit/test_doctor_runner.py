"""The runner: all checks, side by side; none hangs, none hides another."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from appliance import config, paths, settings
from appliance.core.doctor import probe, runner
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.wiring import context_for, context_from
from appliance.core.inference import manifest
from appliance.core.model import CheckResult
from tests.support import wait_for
from tests.unit.doctor_support import Machine

EXPECTED = {
    "backup", "clock_sync", "config", "disk_space", "espeak", "first_boot", "fleet", "gpio", "hailo", "haproxy", "hef", "i2c",
    "kafka", "libraries", "microphone", "models", "nas_mount", "portaudio", "ports", "python", "redis", "terminal",
    "update", "ups", "vpn",
}  # fmt: skip


async def fine(context: DoctorContext) -> CheckResult:
    return CheckResult("fine", "Fine", "ok", "it is")


async def hang(context: DoctorContext) -> CheckResult:
    await asyncio.Event().wait()
    raise AssertionError


async def burst(context: DoctorContext) -> CheckResult:
    raise ZeroDivisionError("of all things")


def test_every_file_is_a_check_of_its_name() -> None:
    found = runner.load_checks()
    assert {check.id for check in found} == EXPECTED
    files = {path.stem for path in Path(runner.checks.__file__ or "").parent.glob("*.py")} - {"__init__"}
    assert files == EXPECTED


async def test_a_hanging_and_a_failing_check_hide_no_other(machine: Machine) -> None:
    chosen = [Check("hang", "Hangs", hang, timeout=0.05), Check("burst", "Bursts", burst), Check("fine", "Fine", fine)]
    hung, burst_, good = await runner.run_checks(machine.context(), chosen)
    assert (hung.check, hung.status, hung.reason) == ("hang", "failed", "no answer within 0.05 s")
    assert burst_.status == "failed"
    assert "ZeroDivisionError: of all things" in burst_.reason
    assert good.status == "ok"


async def test_a_blocking_check_that_hangs_ends_at_its_limit(machine: Machine) -> None:
    never = threading.Event()

    def blocked(context: DoctorContext) -> CheckResult:
        never.wait()
        return CheckResult("late", "Late", "ok", "too late")

    try:
        [result] = await runner.run_checks(machine.context(), [Check("late", "Late", probe.in_thread(blocked), timeout=0.05)])
        assert result.reason == "no answer within 0.05 s"
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("doctor-"))
    finally:
        never.set()


async def test_an_error_in_a_thread_reaches_the_result(machine: Machine) -> None:
    def broken(context: DoctorContext) -> CheckResult:
        raise OSError(5, "Input/output error")

    [result] = await runner.run_checks(machine.context(), [Check("disk", "Disk", probe.in_thread(broken))])
    assert result.status == "failed"
    assert "Input/output error" in result.reason


async def test_a_check_whose_file_is_broken_fails_alone(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_written.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "no_check.py").write_text("CHECK = 3\n")
    monkeypatch.setattr(runner.checks, "__path__", [str(tmp_path)])
    results = await runner.run_checks(machine.context())
    assert [result.check for result in results] == ["half_written", "no_check"]
    assert all(result.status == "failed" for result in results)
    assert "nothing_of_this_name" in results[0].reason
    assert "its CHECK is a int" in results[1].reason


async def test_a_hung_command_is_killed_with_its_children(machine: Machine) -> None:
    pid_file = machine.root / "pid"
    machine.program("stuck", f"sleep 1000 & echo $! > {pid_file}\nwait")
    answer = await probe.run(["stuck"], machine.context().environ, limit=0.5)
    assert answer.hung
    assert answer.code is None
    child = int(pid_file.read_text())
    await wait_for(lambda: not alive(child), message="the end of the command's child")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


async def test_a_command_tells_what_went_wrong(machine: Machine) -> None:
    machine.program("sour", "echo first >&2; echo it is broken >&2; exit 3")
    answer = await probe.run(["sour"], machine.context().environ)
    assert (answer.code, answer.problem, answer.good) == (3, "it is broken", False)
    missing = await probe.run(["no-such-program"], machine.context().environ)
    assert (missing.code, missing.problem, missing.hung) == (None, "not installed", False)


async def test_on_a_bare_machine_every_check_answers_and_every_lack_has_a_fix(machine: Machine) -> None:
    (machine.root / "home").mkdir()
    results = await runner.run_checks(machine.context(environ=machine.bare()))
    assert [result.check for result in results] == sorted(EXPECTED)
    assert {result.status for result in results} <= {"ok", "warning", "failed", "absent"}
    lacking = [result for result in results if result.status != "ok"]
    assert all(result.reason and result.fix for result in lacking), lacking
    hardware = {
        result.check: result.status
        for result in results
        if result.check in {"hailo", "i2c", "gpio", "microphone", "ups", "vpn", "redis"}
    }
    assert set(hardware.values()) == {"absent"}, hardware


async def test_wrong_settings_are_one_failed_check_among_the_others(machine: Machine, tmp_path: Path) -> None:
    where = paths.find({"PRIME_SPARK_HOME": str(tmp_path)})
    where.config.write_text("[ssh]\nprt = 1\n")
    context = context_from(lambda: config.load(where, {}), where, machine.bare())
    found = {result.check: result for result in await runner.run_checks(context)}
    assert set(found) == EXPECTED
    told = found["config"]
    assert (told.status, told.fix) == ("failed", "did you mean ssh.port?")
    assert f"{where.config}:2: unknown key ssh.prt." in told.reason
    assert [use.port for use in context.ports] == [8022, 8000]
    where.config.write_text("[ssh]\nport = 1\n")
    [told] = await runner.run_checks(context_from(lambda: config.load(where, {}), where, {}), [found_check("config")])
    assert (told.status, told.fix) == ("ok", "")


def test_the_doctor_of_the_command_line_examines_although_the_settings_are_wrong(home: Path) -> None:
    (home / "config.toml").write_text("[ssh\n")
    ended = subprocess.run([sys.executable, "-m", "appliance", "doctor", "--json"], capture_output=True, text=True, check=False)
    rows = {row["check"]: row for row in json.loads(ended.stdout)}
    assert set(rows) == EXPECTED
    assert "is not valid TOML" in rows["config"]["reason"]
    assert rows["config"]["fix"]
    assert ended.returncode == 1
    assert "config" in ended.stderr


def found_check(name: str) -> Check:
    return next(check for check in runner.load_checks() if check.id == name)


def test_the_settings_say_what_is_looked_at(tmp_path: Path) -> None:
    chosen = settings.Settings.model_validate(
        {"ssh": {"port": 9022}, "nas": {"path": "/srv/nas"}, "inference": {"model_dir": "/srv/models"}}
    )
    context = context_for(chosen, paths.find({"PRIME_SPARK_HOME": str(tmp_path)}), os.environ)
    assert [(use.port, use.setting) for use in context.ports] == [(9022, "ssh.port"), (8000, "api.port")]
    assert str(context.nas_path) == "/srv/nas"
    assert list(context.model_dirs) == manifest.places(Path("/srv/models"), tmp_path / "data/models")
    assert [str(path) for path in context.model_dirs[:2]] == ["/srv/models", str(tmp_path / "data/models")]
    assert context.home == tmp_path / "data"
    without = settings.Settings.model_validate({"ssh": {"enabled": False}})
    assert [use.setting for use in context_for(without, paths.find({}), os.environ).ports] == ["api.port"]
