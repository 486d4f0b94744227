"""The server that other tests stand on: it tells what upsd tells, at the moment it is told."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.servers.child import ServerError
from tests.servers.nut import NutServer
from tests.support import wait_for_sync


def test_it_changes_dies_and_comes_back(nut: NutServer) -> None:
    nut.set("sim", "ups.status", "OB DISCHRG")
    nut.kill_driver("sim")
    wait_for_sync(lambda: nut.status("sim") == "")
    with pytest.raises(ServerError, match="DRIVER-NOT-CONNECTED"):
        nut.get("sim", "ups.status")
    nut.start_driver("sim")
    assert nut.status("sim") == "OB DISCHRG"
    nut.kill()
    with pytest.raises(OSError, match="refused"):
        nut.get("sim", "ups.status")
    nut.start()
    assert nut.status("sim") == "OB DISCHRG"
    nut.set("sim", "battery.charge", "12")
    nut.recover()
    assert (nut.status("sim"), nut.get("sim", "battery.charge")) == ("OL CHRG", "90")


def test_a_driver_that_hangs_leaves_stale_data() -> None:
    upses = {"one": {"ups.status": "OL"}, "two": {"ups.status": "OB"}}
    with tempfile.TemporaryDirectory(prefix="prime-spark-nut-") as short, NutServer(Path(short), upses, 3) as nut:
        nut.pause_driver("one")

        def told() -> str:
            try:
                return nut.get("one", "ups.status")
            except ServerError as error:
                return str(error)

        wait_for_sync(lambda: "DATA-STALE" in told())
        assert nut.status("two") == "OB"
        nut.start_driver("one")
        assert nut.status("one") == "OL"
