"""The checks on the system: real where this machine can be either, on machines made of files where it cannot."""

from __future__ import annotations

import hashlib
import os
import pty
import socket
import sys
from importlib import metadata
from pathlib import Path

import msgspec
import pytest

from appliance.core.clock import SystemClock
from appliance.core.deploy.book import DeployBook
from appliance.core.deploy.model import Rollout, Stage, Strategy, Version
from appliance.core.doctor.checks import (
    clock_sync,
    disk_space,
    espeak,
    haproxy,
    libraries,
    models,
    nas_mount,
    portaudio,
    ports,
    python,
    redis,
    terminal,
    vpn,
)
from appliance.core.doctor.model import PortUse
from appliance.core.store import Store
from tests.unit.doctor_support import Machine

GIB = 2**30


async def test_this_python_is_a_supported_one(machine: Machine) -> None:
    result = await python.CHECK.run(machine.context())
    assert result.status in {"ok", "warning"}
    assert result.reason.startswith(f"Python {sys.version_info[0]}.{sys.version_info[1]}.")


@pytest.mark.parametrize(
    ("version", "bits", "in_venv", "status"),
    [((3, 11, 2), 64, True, "ok"), ((3, 13, 0), 64, True, "ok"), ((3, 10, 9), 64, True, "failed"),
     ((3, 14, 0), 64, True, "failed"), ((3, 12, 1), 32, True, "failed"), ((3, 12, 1), 64, False, "warning")],
)  # fmt: skip
def test_which_pythons_are_supported(version: tuple[int, ...], bits: int, in_venv: bool, status: str) -> None:
    assert python.judge(version, bits, in_venv=in_venv).status == status


async def test_the_libraries_of_this_environment(machine: Machine) -> None:
    result = await libraries.CHECK.run(machine.context())
    assert result.status == "ok", result


def test_missing_and_different_libraries_are_named() -> None:
    def version_of(name: str) -> str:
        if name == "gone":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    pinned = ["gone==2.0", "old==3.1", "same==1.0", 'elsewhere==9; sys_platform == "win32"']
    assert libraries.problems(pinned, version_of) == ["gone is missing", "old is 1.0, wanted 3.1"]


async def test_a_library_that_cannot_be_loaded_is_named(machine: Machine) -> None:
    result = await libraries.load(machine.context(), ("json", "no_such_library"), 2)
    assert result.status == "failed"
    assert "no_such_library cannot be loaded (ModuleNotFoundError" in result.reason


async def test_a_library_that_ends_the_process_is_survived(machine: Machine) -> None:
    machine.file("aborting.py", "import os; os.abort()")
    context = machine.context(environ={**machine.context().environ, "PYTHONPATH": str(machine.root)})
    result = await libraries.load(context, ("aborting",), 1)
    assert result.status == "failed"
    assert "ended the process" in result.reason


def sound_library(machine: Machine, text: str) -> dict[str, str]:
    """An environment in which `import sounddevice` runs this text."""
    machine.file("modules/sounddevice.py", text)
    return {**machine.context().environ, "PYTHONPATH": str(machine.root / "modules")}


async def test_portaudio_of_this_machine_is_told_as_it_is(machine: Machine) -> None:
    result = await portaudio.CHECK.run(machine.context())
    assert result.status in {"ok", "absent"}, result
    assert ("PortAudio V" in result.reason) is (result.status == "ok")


@pytest.mark.parametrize(
    ("text", "status", "fix"),
    [("raise OSError('PortAudio library not found')", "absent", "sudo apt-get install libportaudio2"),
     ("import os; os.abort()", "failed", "mend or remove ~/.asoundrc and /etc/asound.conf"),
     ("raise ImportError('no cffi')", "failed", "make setup")],
)  # fmt: skip
async def test_how_portaudio_can_fail(machine: Machine, text: str, status: str, fix: str) -> None:
    result = await portaudio.CHECK.run(machine.context(environ=sound_library(machine, text)))
    assert (result.status, result.fix) == (status, fix)


@pytest.mark.parametrize(
    ("script", "status"),
    [("echo 'Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64'", "ok"),
     ("echo 'Redis server v=6.0.16 sha=0'", "warning"),
     ("echo 'cannot load libjemalloc.so.2' >&2; exit 127", "failed")],
)  # fmt: skip
async def test_redis_by_its_version(machine: Machine, script: str, status: str) -> None:
    machine.program("redis-server", script)
    assert (await redis.CHECK.run(machine.context())).status == status


@pytest.mark.parametrize(
    ("script", "status"),
    [("echo 'HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/'", "ok"),
     ("echo 'HA-Proxy version 1.8.4-1deb90d 2018/02/08'", "warning"),
     ("echo 'libcrypt.so.1 is missing' >&2; exit 127", "failed")],
)  # fmt: skip
async def test_haproxy_by_its_version(machine: Machine, script: str, status: str) -> None:
    machine.program("haproxy", script)
    assert (await haproxy.CHECK.run(machine.context())).status == status


@pytest.mark.parametrize(
    ("script", "status"),
    [("echo 'eSpeak NG text-to-speech: 1.51  Data at: /usr/lib/espeak-ng-data'", "ok"),
     ("echo 'Error processing file: No such file' >&2; exit 1", "failed")],
    ids=["whole", "without voices"],
)  # fmt: skip
async def test_espeak_by_its_version(machine: Machine, script: str, status: str) -> None:
    machine.program("espeak-ng", script)
    assert (await espeak.CHECK.run(machine.context())).status == status


async def test_a_missing_espeak_is_absent_with_the_command_that_installs_it(machine: Machine) -> None:
    result = await espeak.CHECK.run(machine.context(environ={"PATH": str(machine.root)}))
    assert (result.status, result.fix) == ("absent", "sudo apt-get install espeak-ng")


async def test_who_needs_haproxy_is_told_with_its_absence(machine: Machine) -> None:
    given = machine.context(haproxy="no-haproxy-here")
    result = await haproxy.CHECK.run(given)
    assert (result.status, result.fix) == ("absent", "sudo apt-get install haproxy")
    assert "neither blue-green nor canary" in result.reason
    given.home.mkdir(parents=True)
    store = Store(given.home / "appliance.sqlite")
    store.open()
    book = DeployBook(store, SystemClock())
    for name, front in (("web", "[front]\nlisten = 8080"), ("old", "[front]\nlisten = 8081"), ("old", "")):
        rollout = Rollout(f"{name}{front}", name, 0, 0, Strategy.rolling, "ada", 1.0)
        _, kept = await book.order(Version(name, 0, "1", 1.0, "ada", front), 1, rollout)
        await book.keep_rollout(msgspec.structs.replace(kept, stage=Stage.failed, ended=2.0))
    store.close()
    assert (await haproxy.CHECK.run(given)).reason == "no-haproxy-here is not installed; nobody directs the traffic of web"


async def test_the_disk_of_this_machine(machine: Machine) -> None:
    result = await disk_space.CHECK.run(machine.context())
    told = os.statvfs(machine.root)
    assert f"of {told.f_blocks * told.f_frsize / GIB:.1f} GiB free" in result.reason
    assert str(machine.root) in result.reason


@pytest.mark.parametrize(
    ("free", "files", "status"),
    [
        (20 * GIB, 0.9, "ok"),
        (20 * GIB, None, "ok"),
        (GIB, 0.9, "warning"),
        (200 * 2**20, 0.9, "failed"),
        (20 * GIB, 0.001, "failed"),
    ],
)
def test_how_much_room_is_enough(free: int, files: float | None, status: str) -> None:
    assert disk_space.judge("/srv", free, 32 * GIB, files).status == status


async def test_the_clock_of_this_machine(machine: Machine) -> None:
    kernel = clock_sync.read_kernel()
    result = await clock_sync.CHECK.run(machine.context())
    assert result.reason.startswith("synchronised") is kernel.synchronised


@pytest.mark.parametrize(
    ("clock", "now", "status"),
    [(clock_sync.KernelClock(0, 0x2001, 0.02), 1.8e9, "ok"), (clock_sync.KernelClock(5, 0x40, 16.0), 1.8e9, "warning"),
     (clock_sync.KernelClock(0, 0x2001, 3.0), 1.8e9, "warning"), (clock_sync.KernelClock(0, 0x2001, 0.02), 0.0, "failed")],
)  # fmt: skip
def test_which_clocks_are_trusted(clock: clock_sync.KernelClock, now: float, status: str) -> None:
    assert clock_sync.judge(clock, now, "chrony").status == status


@pytest.mark.parametrize(
    ("keeper", "fix"), [("chrony", "chronyc tracking"), ("timesyncd", "set-ntp true"), ("", "apt-get install chrony")]
)
def test_the_fix_is_that_of_the_installed_daemon(keeper: str, fix: str) -> None:
    assert fix in clock_sync.judge(clock_sync.KernelClock(5, 0x40, 16.0), 1.8e9, keeper).fix


def mount(machine: Machine) -> Path:
    """Say in the machine's mount table that something is mounted at the NAS's directory, whose name has a blank."""
    place = machine.root / "n as"
    place.mkdir()
    machine.file("proc/self/mountinfo", f"29 1 0:26 / {str(place).replace(' ', chr(92) + '040')} rw - nfs4 nas:/share rw\n")
    return place


async def test_a_nas_with_its_marker(machine: Machine) -> None:
    place = mount(machine)
    (place / nas_mount.MARKER).touch()
    result = await nas_mount.CHECK.run(machine.context(nas_path=place))
    assert result.status == "ok", result


async def test_a_mount_without_the_marker(machine: Machine) -> None:
    place = mount(machine)
    result = await nas_mount.CHECK.run(machine.context(nas_path=place))
    assert (result.status, result.fix) == ("failed", f"touch {place}/{nas_mount.MARKER}")


async def test_a_marker_on_the_local_disk_proves_nothing(machine: Machine) -> None:
    machine.file(f"nas/{nas_mount.MARKER}")
    result = await nas_mount.CHECK.run(machine.context())
    assert result.status == "failed"
    assert "local disk" in result.reason


@pytest.mark.parametrize("made", [True, False])
async def test_no_nas(machine: Machine, made: bool) -> None:
    if made:
        (machine.root / "nas").mkdir()
    assert (await nas_mount.CHECK.run(machine.context())).status == "absent"


async def test_a_nas_that_hangs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    place = mount(machine)
    os.mkfifo(place / nas_mount.MARKER)  # opening it blocks, as on a mount whose server went away
    real_run = nas_mount.probe.run
    monkeypatch.setattr(nas_mount.probe, "run", lambda argv, environ, limit: real_run(argv, environ, 0.5))
    result = await nas_mount.CHECK.run(machine.context(nas_path=place))
    assert result.status == "failed"
    assert "hangs: no answer" in result.reason
    assert "umount -f -l" in result.fix


def test_a_nas_that_is_read_only() -> None:
    assert "remount,rw" in nas_mount.judge("/mnt/nas", mounted=True, marked=True, read_only=True, free=1).fix


async def test_wireguard_in_the_kernel(machine: Machine) -> None:
    (machine.root / "sys/module/wireguard").mkdir(parents=True)
    assert (await vpn.CHECK.run(machine.context())).status == "ok"


async def test_wireguard_that_can_be_loaded(machine: Machine) -> None:
    machine.file("proc/sys/kernel/osrelease", "6.12.47-v8\n")
    machine.file(
        "lib/modules/6.12.47-v8/modules.dep", "kernel/drivers/net/wireguard/wireguard.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\n"
    )
    result = await vpn.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("ok", "the kernel 6.12.47-v8 can load WireGuard")


@pytest.mark.parametrize(
    ("tunnel", "program", "status"),
    [(True, True, "ok"), (False, True, "failed"), (True, False, "absent"), (False, False, "absent")],
)
async def test_wireguard_in_user_space(machine: Machine, tunnel: bool, program: bool, status: str) -> None:
    if tunnel:
        machine.file("dev/net/tun")
    if program:
        machine.program("wireguard-go", "exit 0")
    result = await vpn.CHECK.run(machine.context(environ=machine.bare()))
    assert result.status == status
    assert ("modprobe tun" in result.fix) is not tunnel


async def test_a_free_port_and_one_that_another_process_holds(machine: Machine) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        number = held.getsockname()[1]
        context = machine.context(root=Path("/"), ports=(PortUse("127.0.0.1", number, "ssh.port"),))
        assert (await ports.CHECK.run(context)).reason == f"{number} is free"
        held.listen()
        result = await ports.CHECK.run(context)
        assert result.status == "failed"
        assert f"(pid {os.getpid()})" in result.reason
        assert "ssh.port" in result.fix


async def test_a_port_that_the_running_appliance_holds(machine: Machine) -> None:
    machine.file("home/run/appliance.lock", f"{os.getpid()}\n")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        number = held.getsockname()[1]
        result = await ports.CHECK.run(machine.context(root=Path("/"), ports=(PortUse("127.0.0.1", number, "api.port"),)))
    assert (result.status, result.reason) == ("ok", f"{number} is held by the running appliance")


async def test_a_port_of_another_users_process(machine: Machine) -> None:
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    machine.file(
        "proc/net/tcp6",
        header + f"   0: {'0' * 32}:1F56 {'0' * 32}:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4711 1\n",
    )
    result = await ports.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("failed", "8022 is held by a process of another user")


async def test_port_zero_needs_no_look(machine: Machine) -> None:
    assert (await ports.CHECK.run(machine.context(ports=(PortUse("", 0, "ssh.port"),)))).status == "ok"


@pytest.mark.parametrize(
    ("environ", "status", "word"),
    [({"TERM": "dumb", "LANG": "C.UTF-8"}, "warning", "dumb"), ({"LANG": "C.UTF-8"}, "warning", "not set"),
     ({"TERM": "linux", "LANG": "C"}, "warning", "UTF-8"),
     ({"TERM": "xterm", "LANG": "C.UTF-8", "LC_ALL": "POSIX"}, "warning", "POSIX"),
     ({"TERM": "xterm-256color", "LANG": "de_DE.UTF-8"}, "ok", "de_DE.UTF-8")],
)  # fmt: skip
async def test_the_terminals_kind_and_characters(machine: Machine, environ: dict[str, str], status: str, word: str) -> None:
    result = await terminal.CHECK.run(machine.context(environ=environ))
    assert result.status == status
    assert word in result.reason


def test_the_terminals_size_and_font() -> None:
    assert terminal.judge("xterm", (160, 48), None).status == "ok"
    assert "79×24" in terminal.judge("xterm", (79, 24), None).reason
    assert terminal.judge("linux", (80, 24), frozenset(terminal.NEEDED)).status == "ok"
    poor = terminal.judge("linux", (80, 24), frozenset(terminal.NEEDED) - {"●", "…"})
    assert (poor.status, poor.reason) == ("warning", "the console's font lacks ●…")


def test_a_pseudo_terminal_has_no_console_font() -> None:
    leader, follower = pty.openpty()
    try:
        assert terminal.console_font(follower) is None
    finally:
        os.close(leader)
        os.close(follower)


def test_the_font_of_a_real_console() -> None:
    try:
        console = os.open("/dev/tty1", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        pytest.skip(f"no Linux console here: {error.strerror}")
    try:
        font = terminal.console_font(console)
    finally:
        os.close(console)
    assert font is not None
    assert set("ABCabc019") <= font


def model(machine: Machine, body: bytes, digest: str) -> None:
    machine.file("models/tiny/tiny.onnx").write_bytes(body)
    machine.file(
        "models/tiny/manifest.toml",
        'name = "tiny"\nversion = "1"\ntask = "detection"\nlicence = "MIT"\nlabels = ["person"]\n'
        f'[[files]]\npath = "tiny.onnx"\nsha256 = "{digest}"\nkind = "onnx"\n'
        '[input]\nname = "images"\nwidth = 32\nheight = 32\n'
        '[decode]\nhead = "yolov3"\nlayers = [[[1.0, 2.0]]]\n',
    )


async def test_a_model_whose_hash_is_right(machine: Machine) -> None:
    model(machine, b"weights", hashlib.sha256(b"weights").hexdigest())
    result = await models.CHECK.run(machine.context())
    assert (result.status, result.reason) == ("ok", "tiny 1; the hashes are right")


async def test_a_model_that_was_altered(machine: Machine) -> None:
    model(machine, b"altered", hashlib.sha256(b"weights").hexdigest())
    result = await models.CHECK.run(machine.context())
    assert result.status == "failed"
    assert "SHA-256 differs" in result.reason


async def test_no_model(machine: Machine) -> None:
    result = await models.CHECK.run(machine.context())
    assert (result.status, result.fix) == ("absent", "make setup")
