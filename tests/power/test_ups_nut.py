"""NUT against its own upsd and dummy-ups; what a good upsd never says comes from a server that says it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from appliance.core.model import Health
from appliance.core.power.model import Supply, Ups, UpsReading
from appliance.errors import AbsentError, ApplianceError, DeviceError, DeviceStalledError
from appliance.hw.ups import line, nut, nut_words
from appliance.hw.ups.nut import NutDriver, NutUps, local_names
from tests.servers.nut import PASSWORD, USER, WATCHER, NutServer
from tests.support import free_port, wait_for


def at(server: NutServer, **changes: object) -> nut.NutServer:
    """How the driver reaches a server."""
    return nut.NutServer(server.host, server.port, **changes)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def reading(*upses: Ups) -> AsyncIterator[Ups]:
    """UPSes that are closed at the end; the first is told."""
    try:
        yield upses[0]
    finally:
        for ups in upses:
            await ups.close()


async def refused(ups: Ups) -> ApplianceError | None:
    """The error of a look, or None where there is none."""
    try:
        await ups.read()
    except ApplianceError as error:
        return error
    return None


@pytest.fixture
def rack() -> AsyncIterator[NutServer]:
    """Two UPSes behind one upsd, one of which has little to say; stale after three seconds."""
    upses = {
        "rich": {
            "ups.status": "OB DISCHRG LB", "battery.charge": "17.5", "battery.runtime": "240", "battery.voltage": "24.1",
            "battery.current": "4.2", "ups.realpower": "95", "battery.temperature": "31.5", "ups.mfr": 'a "quoted" \\ name',
        },
        "poor": {"ups.status": "OL", "ups.load": "50", "ups.realpower.nominal": "400"},
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="prime-spark-nut-") as short, NutServer(Path(short), upses, 3) as server:
        yield server


async def test_all_that_two_upses_tell(rack: NutServer) -> None:
    found = {ups.name: ups for ups in await NutDriver([at(rack)]).probe()}
    assert sorted(found) == [f"nut:poor@127.0.0.1:{rack.port}", f"nut:rich@127.0.0.1:{rack.port}"]
    poor, rich = (found[name] for name in sorted(found))
    async with reading(poor, rich):
        seen = await rich.read()
        assert (seen.supply, seen.charging, seen.low, seen.forced) == (Supply.battery, False, True, False)
        assert (seen.percent, seen.runtime, seen.voltage, seen.current) == (17.5, 240.0, 24.1, -4.2)
        assert (seen.power, seen.temperature_c, seen.status, seen.doubts) == (95.0, 31.5, "OB DISCHRG LB", ())
        seen = await poor.read()
        assert (seen.supply, seen.charging, seen.low, seen.percent, seen.power) == (Supply.mains, None, False, None, 200.0)


async def test_a_change_is_told_by_the_next_look(nut: NutServer) -> None:
    async with reading(NutUps(at(nut), "sim")) as ups:
        assert (await ups.read()).supply is Supply.mains
        for status, supply, charging, forced in (
            ("OB DISCHRG", Supply.battery, False, False),
            ("FSD OB DISCHRG LB", Supply.battery, False, True),
            ("OL CHRG", Supply.mains, True, False),
            ("OL BYPASS", Supply.mains, None, False),
            ("OL OB", Supply.unknown, False, False),
            ("OFF", Supply.unknown, None, False),
            ("OL CHRG RB", Supply.mains, True, False),
        ):
            nut.set("sim", "ups.status", status)
            seen = await ups.read()
            assert (seen.supply, seen.charging, seen.forced, seen.status) == (supply, charging, forced, status)


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("battery.charge", "NaN", "percent"),
        ("battery.charge", "250", "percent"),
        ("battery.charge", "-1", "percent"),
        ("battery.charge", "full", "percent"),
        ("battery.runtime", "-5", "runtime"),
        ("battery.runtime", "inf", "runtime"),
        ("battery.voltage", "0.0", "voltage"),
        ("ups.temperature", "999", "temperature_c"),
    ],
)
async def test_nonsense_is_a_doubt_and_the_status_still_counts(nut: NutServer, variable: str, value: str, field: str) -> None:
    nut.set("sim", "ups.status", "OB DISCHRG")
    nut.set("sim", variable, value)
    async with reading(NutUps(at(nut), "sim")) as ups:
        seen = await ups.read()
        assert seen.supply is Supply.battery
        assert getattr(seen, field) is None
        assert seen.doubts == (f"{variable} is {value}",)


@pytest.mark.parametrize("status", ["", "WAIT"])
async def test_a_driver_that_has_not_spoken_yet(nut: NutServer, status: str) -> None:
    nut.set("sim", "ups.status", status)
    async with reading(NutUps(at(nut), "sim")) as ups:
        error = await refused(ups)
        assert isinstance(error, DeviceError)
        assert "has not told a status yet" in error.message


async def test_a_ups_that_its_driver_has_lost(nut: NutServer) -> None:
    nut.set("sim", "ups.status", "OL NOCOMM")
    async with reading(NutUps(at(nut), "sim")) as ups:
        error = await refused(ups)
        assert isinstance(error, DeviceError)
        assert "has lost the UPS (OL NOCOMM)" in error.message
        assert "nut-driver@sim" in error.next_step


async def test_a_driver_that_hangs_dies_and_comes_back(rack: NutServer) -> None:
    async with reading(NutUps(at(rack), "rich")) as ups:
        assert (await ups.read()).percent == 17.5
        rack.pause_driver("rich")
        error = await wait_for(lambda: refused(ups), 20.0, every=0.1)
        assert "is stale" in error.message
        assert "journalctl -u nut-driver@rich" in error.next_step
        rack.kill_driver("rich")
        error = await wait_for(lambda: refused(ups), every=0.1)
        error = await wait_for(lambda: _said(ups, "does not run"), every=0.1)
        assert isinstance(error, DeviceError)
        rack.start_driver("rich")
        assert (await ups.read()).percent == 17.5


async def _said(ups: Ups, words: str) -> ApplianceError | None:
    error = await refused(ups)
    return error if error is not None and words in error.message else None


async def test_upsd_killed_paused_and_back(nut: NutServer) -> None:
    async with reading(NutUps(at(nut), "sim")) as ups:
        assert (await ups.read()).percent == 90
        nut.kill()
        error = await refused(ups)
        assert isinstance(error, DeviceError)
        assert error.message == f"NUT's upsd on 127.0.0.1:{nut.port}: Connection refused."
        assert "nut-server" in error.next_step
        nut.start()
        assert (await ups.read()).percent == 90
        nut.pause()
        error = await refused(ups)
        assert isinstance(error, DeviceStalledError)
        nut.resume()
        assert (await ups.read()).percent == 90


async def test_upsd_restarted_between_two_looks_is_not_noticed(nut: NutServer) -> None:
    async with reading(NutUps(at(nut), "sim")) as ups:
        await ups.read()
        nut.restart()
        assert (await ups.read()).percent == 90


@pytest.mark.parametrize(("named", "kind"), [((), AbsentError), (("attic",), DeviceError)], ids=["found", "named"])
async def test_a_ups_that_upsd_does_not_know(nut: NutServer, named: tuple[str, ...], kind: type[ApplianceError]) -> None:
    async with reading(NutUps(at(nut, upses=named), "attic")) as ups:
        error = await refused(ups)
        assert type(error) is kind
        assert error.message.endswith("has no UPS attic.")
        assert f"upsc -l 127.0.0.1:{nut.port}" in error.next_step


async def test_logging_in(nut: NutServer) -> None:
    async with reading(NutUps(at(nut, username=USER, password=PASSWORD), "sim")) as ups:
        for _ in range(3):
            assert (await ups.read()).percent == 90
        assert nut._ask("GET NUMLOGINS sim") == "NUMLOGINS sim 1"
    await wait_for(lambda: nut._ask("GET NUMLOGINS sim") == "NUMLOGINS sim 0")


@pytest.mark.parametrize(("user", "password"), [(USER, "wrong"), (WATCHER, PASSWORD), ("nobody", "hunter22"), (USER, "")])
async def test_a_login_that_is_refused_is_refused_each_time(nut: NutServer, user: str, password: str) -> None:
    async with reading(NutUps(at(nut, username=user, password=password), "sim")) as ups:
        for _ in range(2):
            error = await refused(ups)
            assert isinstance(error, DeviceError)
            assert "does not let us in (" in error.message
            assert "upsd.users" in error.next_step
            assert not password or password not in str(error)


async def test_a_password_that_would_be_two_lines_is_not_sent(nut: NutServer) -> None:
    server = at(nut, username=USER, password="a\nFSD sim")
    async with reading(NutUps(server, "sim")) as ups:
        assert "control character" in str(await refused(ups))
    assert "FSD" not in repr(server)


async def test_two_servers_and_one_that_is_silent(nut: NutServer, rack: NutServer) -> None:
    dead = nut_at(free_port())
    found = {ups.name: ups for ups in await NutDriver([at(nut), dead, at(rack, upses=("poor",))]).probe()}
    silent = f"nut@127.0.0.1:{dead.port}"
    assert sorted(found) == sorted([f"nut:sim@127.0.0.1:{nut.port}", silent, f"nut:poor@127.0.0.1:{rack.port}"])
    async with reading(*found.values()):
        assert "Connection refused" in str(await refused(found[silent]))
        assert (await found[f"nut:sim@127.0.0.1:{nut.port}"].read()).percent == 90


def nut_at(port: int, **changes: object) -> nut.NutServer:
    return nut.NutServer(port=port, **changes)  # type: ignore[arg-type]


async def test_a_server_that_answers_late_is_found_then(nut: NutServer) -> None:
    nut.kill()
    driver = NutDriver([at(nut)])
    [silent] = await driver.probe()
    nut.start()
    async with reading(silent):
        error = await refused(silent)
        assert isinstance(error, AbsentError)
        assert error.message.endswith("answers now: sim.")
    assert [ups.name for ups in await driver.probe()] == [f"nut:sim@127.0.0.1:{nut.port}"]


async def test_nothing_stands_in_for_upses_that_were_listed_before(nut: NutServer) -> None:
    driver = NutDriver([at(nut)])
    names = [ups.name for ups in await driver.probe()]
    nut.kill()
    assert [ups.name for ups in await driver.probe()] == names
    nut.start()
    assert [ups.name for ups in await driver.probe()] == names


async def test_a_server_that_is_only_tried_is_not_missed() -> None:
    driver = NutDriver([nut_at(free_port(), configured=False)])
    assert await driver.probe() == []
    assert (await asyncio.to_thread(driver.detect)).health is Health.absent


async def test_a_quick_look(rack: NutServer, tmp_path: Path) -> None:
    driver = NutDriver([at(rack)], tmp_path)
    device = await asyncio.to_thread(driver.detect)
    assert device.health is Health.healthy
    assert set(device.reason.split(", ")) == {"NUT: poor is OL", "NUT: rich is OB DISCHRG LB"}
    rack.kill_driver("rich")
    device = await wait_for(lambda: _ill(driver))
    assert "NUT says of rich: ERR DRIVER-NOT-CONNECTED; NUT: poor is OL" in device.reason


async def _ill(driver: NutDriver) -> object:
    device = await asyncio.to_thread(driver.detect)
    return device if device.health is Health.unhealthy else None


def test_the_upses_of_this_machines_own_nut(tmp_path: Path) -> None:
    etc = tmp_path / "etc/nut"
    etc.mkdir(parents=True)
    (etc / "ups.conf").write_text("maxretry = 3\n[eaton]\n driver = usbhid-ups\n # [old]\n[apc 1]\n[rack-2]\n")
    for mode, names in (
        ("MODE=netserver", ("eaton", "rack-2")),
        ("MODE = 'standalone'", ("eaton", "rack-2")),
        ("MODE=none", ()),
    ):
        (etc / "nut.conf").write_text(f"# MODE=standalone\n{mode}\n")
        assert local_names(tmp_path) == names


# ------------------------------------------------------------------ what a good upsd never says

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def saying(answer: Answer) -> AsyncIterator[nut.NutServer]:
    """A server that answers as the test wants."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield nut_at(server.sockets[0].getsockname()[1])
    finally:
        server.close()


LIST = b'BEGIN LIST VAR sim\nVAR sim ups.status "OL"\nVAR sim battery.charge "55"\nEND LIST VAR sim\n'


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\x00\xff\xfe garbage\n", "makes no sense"),
        (b"HTTP/1.1 400 Bad Request\n", "makes no sense"),
        (b"BEGIN LIST VAR other\n", "makes no sense"),
        (b'BEGIN LIST VAR sim\nVAR sim ups.status "OL\nEND LIST VAR sim\n', "makes no sense"),
        (b'BEGIN LIST VAR sim\nVAR other ups.status "OL"\nEND LIST VAR sim\n', "makes no sense"),
        (b"BEGIN LIST VAR sim\nERR DATA-STALE\n", "makes no sense"),
        (b"ERR\n", "makes no sense"),
        (b"ERR SOMETHING-NEW 5\n", "refuses: SOMETHING-NEW"),
        (b"BEGIN LIST VAR sim\n" + b"x" * 20_000 + b"\n", "a line of more than 8192 bytes"),
        (b"BEGIN LIST VAR sim\n" + b'VAR sim a "1"\n' * 1200, "makes no sense"),
        (LIST[:40], "closed the connection"),
        (b"", "closed the connection"),
    ],
    ids=range(12),
)
async def test_garbage_and_half_lines_are_errors(said: bytes, words: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        await writer.drain()

    async with saying(answer) as server, reading(NutUps(server, "sim")) as ups:
        error = await refused(ups)
        assert isinstance(error, DeviceError)
        assert words in error.message
        assert error.next_step


async def test_an_answer_in_pieces_is_one_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            for index in range(len(LIST)):
                writer.write(LIST[index : index + 1])
                await writer.drain()

    async with saying(answer) as server, reading(NutUps(server, "sim")) as ups:
        for _ in range(2):
            assert (await ups.read()).percent == 55


async def test_a_look_that_was_given_up_is_not_taken_for_the_next() -> None:
    """The first answer comes after its look was cancelled; the second look must not get it."""
    asked, free = asyncio.Event(), asyncio.Event()
    count = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while await reader.readline():
            count += 1
            mine = count
            if mine == 1:
                asked.set()
                await free.wait()
            writer.write(LIST.replace(b"55", str(mine).encode()))
            await writer.drain()

    async with saying(answer) as server, reading(NutUps(server, "sim")) as ups:
        first = asyncio.create_task(ups.read())
        await asked.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        free.set()
        for _ in range(2):
            seen: UpsReading = await ups.read()
            assert seen.percent == count
        assert count == 3


async def test_a_server_that_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with saying(answer) as server:
        ups = NutUps(server, "sim")
        ups._link._limit = 0.2
        async with reading(ups):
            error = await refused(ups)
            assert isinstance(error, DeviceStalledError)
            assert error.message.endswith("does not answer within 0.2 s.")


def test_addresses_are_not_looked_up() -> None:
    assert all(line._literal(host) for host in ("127.0.0.1", "::1", "fe80::1%eth0"))
    assert not any(line._literal(host) for host in ("ups.example", "localhost", "1.2.3", ""))


async def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    async with reading(NutUps(nut.NutServer("ups.example"), "sim")) as ups:
        error = await refused(ups)
        assert error is not None
        assert "the name is not known (Name or service not known)" in error.message


async def test_a_name_that_no_dns_can_have() -> None:
    async with reading(NutUps(nut.NutServer("x" * 64 + ".example"), "sim")) as ups:
        assert "the name is not known" in str(await refused(ups))


async def test_a_dns_that_hangs_takes_one_thread_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    free, calls = threading.Event(), []

    def hangs(*asked: object, **_: object) -> None:
        calls.append(asked)
        free.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(line, "LOOKUP", 0.1)
    monkeypatch.setattr(nut_words, "ALL", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    server = nut.NutServer("ups.example")
    driver = NutDriver([server])
    async with reading(NutUps(server, "sim")) as ups:
        for _ in range(4):
            error = await refused(ups)
            assert isinstance(error, DeviceStalledError)
            assert error.message.startswith("the look-up of ups.example ")
        assert len(calls) == 1
        for _ in range(3):
            device = await asyncio.to_thread(driver.detect)
            assert device.health is Health.unhealthy
            assert device.reason.startswith("NUT on ups.example ")
        assert len(calls) == 2
        free.set()


async def test_the_second_address_of_a_name_is_tried_too(nut: NutServer, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = socket.getaddrinfo

    def two(host: str, port: int, *rest: object, **more: object) -> object:
        if host != "ups.example":
            return plain(host, port, *rest, **more)  # type: ignore[call-overload]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    async with reading(NutUps(at_name("ups.example", nut.port), "sim")) as ups:
        assert (await ups.read()).percent == 90


def at_name(host: str, port: int) -> nut.NutServer:
    return nut.NutServer(host, port)


async def test_searching_again_and_again_leaves_nothing_behind(nut: NutServer) -> None:
    driver = NutDriver([nut_at(nut.port, host="localhost"), nut_at(free_port())])
    name = "lane the look-up of localhost"
    for _ in range(5):
        for ups in await driver.probe():
            await ups.close()
    await wait_for(lambda: name not in {thread.name for thread in threading.enumerate()})
    [silent, ups] = sorted(await driver.probe(), key=lambda each: "sim" in each.name)
    async with reading(ups, silent):
        assert (await ups.read()).percent == 90
