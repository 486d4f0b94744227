"""A machine in QEMU that starts the image as a PC with UEFI firmware does: nothing is passed to it but the disk."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from imagelab.disk import Disk
from imagelab.qmp import Qmp, QmpError
from imagelab.screen import Screen

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
WITH_US = ("nice", "-n", "-10", "setpriv", "--pdeathsig", "KILL")
"""What begins a command so that it ends when whoever runs the tests is killed, and gets its share beside other tests."""
GUEST_PORTS = {"ssh": 22, "console": 8022, "api": 8000}
WEB = "10.0.2.100"
"""The address and the name under which the guest reaches what the test serves."""


@dataclass
class Wishes:
    """How a machine is to be unlike the usual one.

    Attributes:
        memory: MiB.
        processors: How many. On a busy machine one is quicker than two, which wait for each other.
        network: Whether there is a card at all.
        serial: Whether there is a serial port.
        display: Whether there is a screen of its own.
        rtc: What the clock says at the start (QEMU's `-rtc base=`).
        web: A port on loopback here which the guest reaches at http://10.0.2.100/.
        ports: Ports of the guest by name, forwarded from loopback here.
        extra: Further arguments of QEMU.
    """

    memory: int = 1536
    processors: int = int(os.environ.get("PRIME_SPARK_PROCESSORS", "2"))
    network: bool = True
    serial: bool = True
    display: bool = True
    rtc: str = ""
    web: int = 0
    ports: dict[str, int] = field(default_factory=lambda: dict(GUEST_PORTS))
    extra: list[str] = field(default_factory=list)


USB = ("-device", "qemu-xhci,id=usb")
"""A machine with USB (`Wishes.extra`)."""


class Machine:
    """One machine with its disk. `with Machine(disk) as machine:` starts it and cuts its power at the end.

    Args:
        disk: Kept when the machine goes: another machine may start from it.
        wishes: What is unlike the usual.
        name: Of the files of its recordings.
    """

    arch = "amd64"
    program = "qemu-system-x86_64"

    def __init__(self, disk: Disk, wishes: Wishes | None = None, name: str = "machine") -> None:
        self.disk = disk
        self.wishes = wishes or Wishes()
        self.name = name
        self.log = disk.home / f"{name}.serial"
        self.screen = Screen(self._type)
        self.qmp: Qmp | None = None
        self._sticks: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._serial: socket.socket | None = None
        self._run = Path(tempfile.mkdtemp(prefix="qemu-"))  # a UNIX socket's path must be short

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is not None:
                self.keep_record()
        finally:
            self.cut()
            shutil.rmtree(self._run, ignore_errors=True)

    def start(self) -> None:
        """Press the switch."""
        self.disk.start()
        self._launch()

    def cut(self) -> None:
        """Pull the plug: SIGKILL. What that proves is said in disk.py. Nothing happens where it is off already."""
        if self._kill():
            self.disk.cut()

    def switch_off(self, limit: float = 180.0) -> None:
        """Press the switch and wait until the machine has gone off by itself. Raises TimeoutError."""
        qmp = self.monitor
        qmp.command("system_powerdown")
        self.wait_off(limit)

    def wait_off(self, limit: float = 180.0) -> None:
        """Wait until it has gone off by itself. Raises TimeoutError."""
        assert self._process is not None, "it is not running"
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"still on after {limit:g} s; the console shows\n{self.screen.text()}") from error
        self._kill()
        self.disk.stop()

    @property
    def monitor(self) -> Qmp:
        """QEMU's monitor. Raises AssertionError where the machine is off."""
        assert self.qmp is not None, "the machine is off"
        return self.qmp

    @property
    def running(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    def port(self, name: str) -> int:
        """The port on 127.0.0.1 here which leads to one of the guest's, by name."""
        guest = self.wishes.ports[name]
        said = self.monitor.monitor("info usernet")
        for line in said.splitlines():
            if found := re.match(rf"\s*TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+{guest}\s", line):
                return int(found[1])
        raise LookupError(f"nothing leads to port {guest} of the guest:\n{said}")

    def picture(self, file: Path) -> Path:
        """What the machine's own screen shows, as PNG; the serial line's is drawn by imagelab.picture."""
        self.monitor.command("screendump", filename=str(file), format="png")
        return file

    def plug(self, stick: Path, *, usb: bool = False) -> str:
        """Plug in a disk with a file system, given as a raw image; its name for `pull`.

        Args:
            stick: The image.
            usb: On USB, where the guest may write it (wishes: `USB`); else on another bus, where it may only be read.
        """
        name = f"stick{len(self._sticks)}"
        self._sticks.append(stick)
        file = {"driver": "file", "filename": str(stick), "read-only": not usb}
        self.monitor.command("blockdev-add", **{"driver": "raw", "node-name": name, "read-only": not usb, "file": file})
        driver, bus = ("usb-storage", "usb.0") if usb else ("scsi-hd", "slots.0")
        self.monitor.command("device_add", driver=driver, drive=name, id=name, bus=bus)
        return name

    def pull(self, name: str) -> None:
        """Pull out what was plugged in; nobody in the guest is asked."""
        self.monitor.command("device_del", id=name)

    def resets(self) -> int:
        """How often the machine began anew since it was switched on."""
        return len(self.monitor.happened("RESET"))

    def keep_record(self) -> Path:
        """Save what the screen showed, for whoever looks into a failure, and return where."""
        target = Path(os.environ.get("PRIME_SPARK_RECORDS", self.disk.home)) / f"{self.name}-{int(time.time())}.cast"
        target.parent.mkdir(parents=True, exist_ok=True)
        self.screen.save(target)
        return target

    def command(self) -> list[str]:
        """QEMU's arguments."""
        variables = self.disk.home / "efivars.fd"
        if not variables.exists():
            shutil.copy(OVMF_VARS, variables)
        firmware = ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}"]
        firmware += ["-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
        display = ["-vga", "std"] if self.wishes.display else []
        return [self.program, "-M", "q35", "-cpu", "max,-svm,-la57", *self.common(), *display, *firmware]

    def common(self) -> list[str]:
        """What both kinds of machine have."""
        wishes, run = self.wishes, self._run
        words = ["-accel", "tcg,thread=multi,tb-size=512", "-smp", str(wishes.processors), "-m", str(wishes.memory)]
        words += ["-nodefaults", "-no-user-config", "-display", "none"]
        words += ["-blockdev", self.disk.blockdev(), "-device", "virtio-blk-pci,drive=disk,bootindex=1"]
        words += ["-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"]
        words += ["-device", "virtio-scsi-pci,id=slots"]
        words += ["-qmp", f"unix:{run / 'qmp'}"]
        if wishes.serial:
            words += ["-chardev", f"socket,id=serial,path={run / 'serial'},logfile={self.log},logappend=on"]
            words += ["-serial", "chardev:serial"]
        if wishes.network:
            words += ["-netdev", self._netdev(), "-device", "virtio-net-pci,netdev=net"]
        if wishes.rtc:
            words += ["-rtc", f"base={wishes.rtc}"]
        return words + wishes.extra

    def _netdev(self) -> str:
        """A network of its own that reaches nothing but what is named here."""
        words = ["user", "id=net", "restrict=on"]
        words += [f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in self.wishes.ports.values()]
        if self.wishes.web:
            words.append(f"guestfwd=tcp:{WEB}:80-cmd:busybox nc 127.0.0.1 {self.wishes.web}")
        return ",".join(words)

    def _launch(self) -> None:
        self._sticks = []
        qmp, serial = self._listen("qmp"), self._listen("serial")
        said = self._run / "said"
        with said.open("wb") as file:
            self._process = subprocess.Popen([*WITH_US, *self.command()], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            self.qmp = Qmp(qmp)
            if self.wishes.serial:
                serial.settimeout(30)
                self._serial, _ = serial.accept()
                threading.Thread(target=self._read_serial, args=(self._serial,), name="serial", daemon=True).start()
        except (OSError, QmpError) as error:
            self._kill()
            self.disk.cut()
            raise RuntimeError(f"QEMU does not start: {said.read_text(errors='replace')}") from error
        finally:
            qmp.close()
            serial.close()

    def _listen(self, name: str) -> socket.socket:
        path = self._run / name
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        return listener

    def _kill(self) -> bool:
        """End QEMU at once; whether there was one."""
        process, self._process = self._process, None
        if process is None:
            return False
        process.kill()
        process.wait(30)
        if self._serial is not None:
            self._serial.close()
            self._serial = None
        self.qmp = None
        return True

    def _type(self, data: bytes) -> None:
        if self._serial is not None:
            self._serial.sendall(data)

    def _read_serial(self, wire: socket.socket) -> None:
        while True:
            try:
                data = wire.recv(65536)
            except OSError:  # closed by the cut
                return
            if not data:
                return
            self.screen.feed(data)
