"""PiSugar's server: a stand-in that speaks as its README and its source say (pisugar-power-manager-rs, cmds.rs, stream.rs)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.core.model import Health
from appliance.core.power.model import Supply
from appliance.errors import DeviceError, DeviceStalledError
from appliance.hw.ups.pisugar import PiSugar, PiSugarDriver, PiSugarServer, told
from tests.support import free_port

THREE = {
    "battery": "83.21", "battery_v": "4.0512", "battery_i": "0.71", "battery_power_plugged": "true",
    "battery_charging": "true", "temperature": "34", "model": "PiSugar 3",
}  # fmt: skip
HELP = """error: unrecognized subcommand '{0}'

Usage: get <COMMAND>

For more information, try 'help'.

Hint: use 'help' to see all available commands
"""
"""What clap says of a command that this version does not know: some lines, none with the command's name and a colon."""


class StandIn:
    """PiSugar's server as its source has it: requests by lines, however they are cut into packets; events in between."""

    def __init__(self) -> None:
        self.values = dict(THREE)
        self.pressed: list[str] = []
        self.silent = False
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := (await reader.readline()).decode().strip():
                self.asked.append(line)
                if self.silent:
                    continue
                for press in self.pressed:
                    writer.write(f"{press}\n".encode())
                writer.write(self.answer(line).encode())
                await writer.drain()
        writer.close()

    def answer(self, line: str) -> str:
        verb, _, name = line.partition(" ")
        if verb == "get" and name in self.values:
            return f"{name}: {self.values[name]}\n"
        return HELP.format(name)


@contextlib.asynccontextmanager
async def running(stand_in: StandIn, **where: Any) -> AsyncIterator[PiSugarServer]:
    """The stand-in on TCP, or on a UNIX socket where one is named."""
    if socket := where.get("socket", ""):
        server = await asyncio.start_unix_server(stand_in.serve, socket)
        port = free_port()
    else:
        server = await asyncio.start_server(stand_in.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
    try:
        yield PiSugarServer(port=port, socket=socket)
    finally:
        server.close()


async def test_a_pisugar_3_plugged_in_and_not() -> None:
    stand_in = StandIn()
    async with running(stand_in) as where:
        [ups] = await PiSugarDriver(where).probe()
        seen = await ups.read()
        assert (seen.supply, seen.charging, seen.percent, seen.voltage) == (Supply.mains, True, 83.21, 4.0512)
        assert (seen.temperature_c, seen.status) == (34.0, "PiSugar 3")
        assert (seen.current, seen.power) == (None, None)  # while plugged in, what it puts out is not the battery's
        stand_in.values |= {"battery_power_plugged": "false", "battery_charging": "false"}
        seen = await ups.read()
        assert (seen.supply, seen.charging, seen.current) == (Supply.battery, False, -0.71)
        assert seen.power == pytest.approx(0.71 * 4.0512)
        await ups.close()
        assert {line.partition(" ")[0] for line in stand_in.asked} == {"get"}  # nothing is ever changed


async def test_over_its_unix_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="prime-spark-sugar-") as short:
        async with running(StandIn(), socket=f"{short}/s.sock") as where:
            [ups] = await PiSugarDriver(where).probe()
            assert (await ups.read()).percent == 83.21
            await ups.close()
            assert (await asyncio.to_thread(PiSugarDriver(where).detect)).health is Health.healthy


async def test_a_socket_that_was_left_behind_is_passed_by() -> None:
    with tempfile.TemporaryDirectory(prefix="prime-spark-sugar-") as short:
        path = f"{short}/s.sock"
        server = await asyncio.start_unix_server(StandIn().serve, path)
        server.close()
        assert Path(path).is_socket()
        async with running(StandIn()) as where:
            ups = PiSugar(PiSugarServer(port=where.port, socket=path))
            assert (await ups.read()).percent == 83.21
            await ups.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_socket_of_somebody_else_is_not_believed() -> None:
    forged = StandIn()
    forged.values["battery"] = "1"
    with tempfile.TemporaryDirectory(prefix="prime-spark-sugar-") as short:
        async with running(forged, socket=f"{short}/s.sock") as where, running(StandIn()) as real:
            os.chown(where.socket, 65534, 65534)
            ups = PiSugar(PiSugarServer(port=real.port, socket=where.socket))
            assert (await ups.read()).percent == 83.21
            await ups.close()


async def test_presses_of_its_button_come_in_between() -> None:
    stand_in = StandIn()
    stand_in.pressed = ["single", "long", "double"]
    async with running(stand_in) as where:
        ups = PiSugar(where)
        for _ in range(3):
            assert (await ups.read()).percent == 83.21
        await ups.close()


async def test_a_version_that_knows_fewer_commands() -> None:
    stand_in = StandIn()
    for name in ("temperature", "battery_power_plugged", "battery_i"):
        del stand_in.values[name]
    async with running(stand_in) as where:
        ups = PiSugar(where)
        seen = await ups.read()
        assert (seen.percent, seen.temperature_c, seen.supply, seen.doubts) == (83.21, None, Supply.mains, ())
        stand_in.values["battery_charging"] = "false"
        assert (await ups.read()).supply is Supply.unknown
        await ups.close()


async def test_a_server_without_its_board() -> None:
    stand_in = StandIn()
    stand_in.values |= dict.fromkeys(("battery", "battery_v", "battery_i"), "I2C: Remote I/O error (os error 121)")
    async with running(stand_in) as where:
        ups = PiSugar(where)
        with pytest.raises(DeviceError, match="no value of its board: I2C: Remote I/O error") as refused:
            await ups.read()
        assert "systemctl restart pisugar-server" in refused.value.next_step
        stand_in.values = dict(THREE)
        assert (await ups.read()).percent == 83.21
        await ups.close()


async def test_a_server_that_dies_hangs_and_comes_back() -> None:
    stand_in = StandIn()
    async with running(stand_in) as where:
        ups = PiSugar(where)
        await ups.read()
        stand_in.silent = True
        ups._link._limit = 0.2
        with pytest.raises(DeviceStalledError, match=r"does not answer within 0\.2 s"):
            await ups.read()
        ups._link._limit = 2.0
        stand_in.silent = False
        assert (await ups.read()).percent == 83.21
    ups._link.drop()  # the stand-in's connections outlive its listening socket
    with pytest.raises(DeviceError, match="Connection refused"):
        await ups.read()
    server = await asyncio.start_server(stand_in.serve, "127.0.0.1", where.port)
    assert (await ups.read()).percent == 83.21
    await ups.close()
    server.close()


async def test_where_no_server_is() -> None:
    nowhere = PiSugarServer(port=free_port(), socket="")
    assert await PiSugarDriver(nowhere).probe() == []
    assert (await asyncio.to_thread(PiSugarDriver(nowhere).detect)).health is Health.absent
    missed = PiSugarServer(port=nowhere.port, socket="", configured=True)
    assert [ups.name for ups in await PiSugarDriver(missed).probe()] == ["pisugar"]
    device = await asyncio.to_thread(PiSugarDriver(missed).detect)
    assert (device.health, device.next_step[:24]) == (Health.unhealthy, "sudo systemctl restart p")


async def test_a_web_server_on_its_port_is_no_pisugar() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    assert await PiSugarDriver(PiSugarServer(port=server.sockets[0].getsockname()[1], socket="")).probe() == []
    server.close()


@pytest.mark.parametrize(
    ("model", "plugged", "charging", "supply"),
    [
        ("PiSugar 2 (4-LEDs)", "false", "false", Supply.unknown),  # it only guesses by the voltage
        ("PiSugar 2 (4-LEDs)", "true", "true", Supply.mains),
        ("PiSugar 2 (2-LEDs)", "false", "false", Supply.battery),
        ("PiSugar 2 (2-LEDs)", "true", "false", Supply.mains),
        ("PiSugar 2 Pro", "false", "true", Supply.mains),
        ("PiSugar 3", "false", "false", Supply.battery),
        ("PiSugar 3", "what", "", Supply.unknown),
    ],
)
def test_who_can_see_its_charger(model: str, plugged: str, charging: str, supply: Supply) -> None:
    answers = {**THREE, "model": model, "battery_power_plugged": plugged, "battery_charging": charging}
    assert told(answers).supply is supply


def test_nonsense_is_a_doubt_and_no_voltage_an_error() -> None:
    seen = told({**THREE, "battery": "NaN", "temperature": "1e9"})
    assert (seen.percent, seen.temperature_c, seen.voltage) == (None, None, 4.0512)
    assert seen.doubts == ("battery is NaN", "temperature is 1e9")
    with pytest.raises(DeviceError, match="no value of its board"):
        told({**THREE, "battery_v": "0"})


def test_a_pisugar_2_tells_the_current_into_its_battery() -> None:
    seen = told({**THREE, "model": "PiSugar 2 (2-LEDs)", "battery_i": "0.4"})
    assert (seen.current, seen.power) == (0.4, None)
