"""HEFs read without the vendor's library, and held against the device by the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.core.doctor.checks import hef as check
from appliance.core.inference import hef
from appliance.core.model import CheckResult
from appliance.errors import ModelError
from tests.hailo import hefs
from tests.unit.doctor_support import Machine


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_a_header_of_each_format(tmp_path: Path, version: int) -> None:
    path = tmp_path / "net.hef"
    path.write_bytes(hefs.header("HAILO8L", "3.29.0", version))
    read = hef.read(path)
    assert (read.version, read.architecture, read.compiler, read.size) == (version, "HAILO8L", "3.29.0", path.stat().st_size)
    assert read.fits("HAILO8")
    assert read.fits("HAILO8L")
    assert not read.fits("HAILO10H")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it has 0 bytes"),
        (b"\x08\x07\x12\x04onnx, no HEF at all", "does not begin as one"),
        (hefs.header()[:-3], "cut off"),
        (b"\x01\x48\x45\x46\x00\x00\x00\x09" + b"\0" * 40, "format version 9"),
        (b"\x01\x48\x45\x46\x00\x00\x00\x00\x00\x00\x00\x04" + b"\0" * 20 + b"\xff\xff\xff\xff", "damaged"),
        (b"\x01\x48\x45\x46\x00\x00\x00\x00\x00\x00\x00\x00" + b"\0" * 20, "no header message"),
    ],
)
def test_what_is_no_hef_is_told(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "net.hef"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=words):
        hef.read(path)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path / "machine"
    root.mkdir()
    return Machine(root)


def add(machine: Machine, architecture: str = "HAILO8", compiler: str = "3.31.0") -> Path:
    manifest = 'name = "net"\nversion = "1"\ntask = "embedding"\nlicence = "MIT"\nlabels = []\n'
    machine.file("models/net/manifest.toml", manifest + '[[files]]\npath = "net.hef"\nsha256 = "00"\nkind = "hef"\n')
    path = machine.file("models/net/net.hef")
    path.write_bytes(hefs.header(architecture, compiler))
    return path


async def look(machine: Machine, device: str = "HAILO8", library: str = "4.23.0") -> CheckResult:
    machine.file("dev/hailo0")
    python = machine.program("vendors-python", f"echo {library}")
    machine.program("hailortcli", f"echo 'Device Architecture: {device}'" if device else "exit 1")
    return await check.CHECK.run(machine.context(system_python=str(python)))


async def test_a_hef_for_this_chip(machine: Machine) -> None:
    add(machine)
    result = await look(machine)
    assert (result.status, result.reason) == ("ok", "net@1: for a HAILO8, known to HailoRT 4.23.0")


async def test_a_hef_for_another_chip_with_the_exact_fix(machine: Machine) -> None:
    add(machine, "HAILO8")
    result = await look(machine, "HAILO8L")
    assert (result.status, result.reason) == ("failed", "net@1 is for HAILO8; the device is a HAILO8L")
    assert "hw_arch=hailo8l" in result.fix


@pytest.mark.parametrize(
    ("compiler", "library", "status"),
    [
        ("3.33.0", "4.20.0", "warning"),
        ("3.30.0", "4.20.0", "ok"),
        ("3.27.0", "4.23.0", "ok"),
        ("5.2.0", "4.23.0", "warning"),
        ("", "4.20.0", "ok"),
    ],
)
async def test_a_compiler_newer_than_the_library(machine: Machine, compiler: str, library: str, status: str) -> None:
    add(machine, "HAILO8", compiler)
    result = await look(machine, "HAILO8", library)
    assert result.status == status
    if status == "warning":
        assert f"newer than HailoRT {library}" in result.reason
        assert "Dataflow Compiler 3." in result.fix
        assert "hailo-all" in result.fix


async def test_a_damaged_hef(machine: Machine) -> None:
    path = add(machine)
    path.write_bytes(path.read_bytes()[:20])
    result = await look(machine)
    assert (result.status, "cut off" in result.reason) == ("failed", True)


async def test_without_a_device_or_without_a_hef(machine: Machine) -> None:
    assert (await check.CHECK.run(machine.context())).status == "absent"
    add(machine)
    result = await check.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("ok", "net@1 for HAILO8; no Hailo is there to hold them against")
    assert (await look(machine, device="")).status == "warning"
