"""From the settings to the drivers, and from the drivers to the doctor."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from appliance import config, paths, upsparts
from appliance.core.doctor.checks import ups as check
from appliance.core.doctor.wiring import context_from
from appliance.core.secrets import Secrets
from appliance.errors import StoreError
from appliance.hw.gpio import MainsWiring
from appliance.hw.ups.found import LOCAL, Wanted, drivers
from appliance.hw.ups.ina219 import Monitor
from appliance.hw.ups.nut import NutServer as Server
from appliance.hw.ups.pisugar import PiSugarServer
from tests.servers.nut import ON_MAINS, NutServer

TOML = """[ups]
i2c = [1, 3]
gauge_cells = 2
mains_pin = 17
mains_high = false
mains_pull = "none"
monitor_address = 67
monitor_cells = 1
monitor_shunt_ohm = 0.02
monitor_reversed = true
pisugar = false
[ups.nut.rack]
host = "10.0.0.9"
port = 3494
upses = ["eaton"]
username = "spark"
[ups.nut.attic]
host = "ups.example"
"""


def loaded(directory: Path, text: str = "") -> config.Settings:
    where = paths.find({"PRIME_SPARK_HOME": str(directory)})
    where.config.write_text(text)
    return config.load(where, {})


def test_every_setting_reaches_its_driver(tmp_path: Path) -> None:
    asked = []

    def password(name: str) -> str:
        asked.append(name)
        return "secret"

    assert upsparts.wanted(loaded(tmp_path, TOML).ups, password) == Wanted(
        i2c=(1, 3),
        gauge_cells=2,
        mains=MainsWiring(17, high_is_mains=False, pull="none"),
        monitor=Monitor(0x43, 1, 0.02, reversed=True),
        nut=(Server("10.0.0.9", 3494, ("eaton",), "spark", "secret"), Server("ups.example")),
        pisugar=None,
    )
    assert asked == ["rack"]  # one without a user needs none


def test_without_a_word_all_kinds_are_looked_for(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert upsparts.wanted(settings.ups, lambda _: "") == Wanted(nut=(LOCAL,), pisugar=PiSugarServer())
    found = upsparts.drivers(settings, Secrets(tmp_path, {}))
    assert [driver.kind for driver in found] == ["sysfs", "max170xx", "ina219", "pisugar", "nut"]
    off = loaded(tmp_path, "[power]\nenabled = false\n")
    assert (upsparts.drivers(off, Secrets(tmp_path, {})), upsparts.looks(off)) == ((), ())


def test_the_password_comes_from_the_secrets(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    secret = secrets / "ups.nut.rack"
    secret.touch(mode=0o600)
    secret.write_text("let me in\n")
    found = upsparts.drivers(loaded(tmp_path, TOML), Secrets(secrets, {}))
    nut = next(driver for driver in found if driver.kind == "nut")
    [rack, _] = nut._wanted  # type: ignore[attr-defined]
    assert rack.password == "let me in"
    assert "let me in" not in repr(found[-1].__dict__)


async def test_the_doctor_sees_several_upses_at_once(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="prime-spark-nut-") as short:
        upses = {"rack": ON_MAINS, "attic": {"ups.status": "OB DISCHRG"}}
        with NutServer(Path(short), upses) as nut:
            text = f"[ups]\ni2c = []\npisugar = false\n[ups.nut.here]\nport = {nut.port}\n"
            where = paths.find({"PRIME_SPARK_HOME": str(tmp_path)})
            where.config.write_text(text)
            context = await asyncio.to_thread(context_from, lambda: config.load(where, {}), where, {}, upsparts.looks)
            result = await check.CHECK.run(context)
            assert result.status == "ok"
            assert "NUT: rack is OL CHRG" in result.reason
            assert "NUT: attic is OB DISCHRG" in result.reason
            nut.kill()
            result = await check.CHECK.run(context)
            assert "Connection refused" in result.reason
            assert result.status in {"failed", "warning"}  # a warning where this machine has a battery of its own


def test_looking_at_nothing_loads_no_library() -> None:
    code = (
        "import sys; from pathlib import Path; from appliance.hw.ups.found import Wanted, drivers\n"
        "found = [each.detect() for each in drivers(Wanted(), Path('/nowhere'))]\n"
        "print(*sorted({'gpiozero', 'numpy'} & set(sys.modules)), *(device.health for device in found[:3]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["absent"] * 3


@pytest.mark.parametrize("wanted", [Wanted(i2c=()), Wanted(nut=(), pisugar=None)])
def test_what_is_not_wanted_is_not_there(wanted: Wanted) -> None:
    kinds = {driver.kind for driver in drivers(wanted)}
    assert ("max170xx" in kinds) is bool(wanted.i2c)
    assert ("nut" in kinds) is bool(wanted.nut)
    assert ("pisugar" in kinds) is (wanted.pisugar is not None)


def test_a_password_that_cannot_be_read_costs_no_ups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Asking upsd needs no login; before, the whole power service ended of it."""

    def unreadable(name: str) -> str:
        raise StoreError(f"The secret {name} cannot be read: Permission denied.", "chmod it.")

    (server, _) = upsparts.wanted(loaded(tmp_path, TOML).ups, unreadable).nut
    assert (server.host, server.upses, server.username, server.password) == ("10.0.0.9", ("eaton",), "", "")
    assert "rack of NUT is asked without logging in" in caplog.text
