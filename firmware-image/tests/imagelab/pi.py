"""A machine with an arm64 processor and a Pi's firmware in front of it, which this file plays at every start."""

from __future__ import annotations

import threading
import time

from imagelab import pifirmware
from imagelab.disk import Disk
from imagelab.machine import Machine, Wishes
from imagelab.qmp import Qmp
from imagelab.run import run


class Pi(Machine):
    """QEMU's `virt` machine: the kernel, initramfs and command line are those that the image's own boot files name.

    QEMU ends where the guest restarts; a thread reads the files again, as the firmware would, and starts it anew.

    Args:
        disk: See Machine.
        wishes: See Machine.
        name: See Machine.
        words: What the firmware adds to the kernel's command line of its own, as the Pi's does.
    """

    arch = "arm64"
    program = "qemu-system-aarch64"
    board = ("-M", "virt,gic-version=2", "-cpu", "cortex-a76")

    def __init__(self, disk: Disk, wishes: Wishes | None = None, name: str = "pi", words: str = "") -> None:
        super().__init__(disk, wishes, name)
        self.words = words
        self.choices: list[pifirmware.Choice] = []
        """What the firmware started, oldest first."""
        self.fault: Exception | None = None
        """Why the firmware could start nothing."""
        self._wanted = threading.Event()
        self._lock = threading.RLock()
        self._mark = 0
        self._supervisor: threading.Thread | None = None

    def start(self) -> None:
        """Press the switch: the register that asks for the other slot is empty then."""
        self.disk.start()
        self._begin(tryboot=False)
        self._wanted.set()
        self._supervisor = threading.Thread(target=self._supervise, name="firmware", daemon=True)
        self._supervisor.start()

    def wait_boots(self, count: int, limit: float = 600.0) -> pifirmware.Choice:
        """What was started as number `count`, as soon as it is. Raises TimeoutError, or what the firmware failed with."""
        ends = time.monotonic() + limit
        while len(self.choices) < count:
            if self.fault is not None:
                raise self.fault
            if time.monotonic() > ends:
                raise TimeoutError(f"{len(self.choices)} starts within {limit:g} s; the console shows\n{self.screen.text()}")
            time.sleep(0.1)
        return self.choices[count - 1]

    def resets(self) -> int:
        """How often the machine began anew."""
        return max(0, len(self.choices) - 1)

    def command(self) -> list[str]:
        """QEMU's arguments."""
        choice = self.choices[-1]
        bare, tree = self._run / "bare.dtb", self._run / "tree.dtb"
        if not bare.exists():
            machine = f"{self.board[1]},dumpdtb={bare}"
            run(
                self.program,
                "-M",
                machine,
                *self.board[2:],
                "-m",
                str(self.wishes.memory),
                "-smp",
                str(self.wishes.processors),
                "-display",
                "none",
            )
        words = [self.program, *self.board, *self.common(), "-action", "reboot=shutdown"]
        words += ["-dtb", str(pifirmware.device_tree(bare, choice, tree)), "-kernel", str(choice.kernel)]
        if choice.initrd is not None:
            words += ["-initrd", str(choice.initrd)]
        return [*words, "-append", f"{choice.cmdline} {self.words}".strip()]

    def _begin(self, tryboot: bool) -> None:
        self.choices.append(pifirmware.choose(self.disk, tryboot, self._run))
        self._mark = len(self.screen.log)
        self._launch()

    def _supervise(self) -> None:
        """Start again whatever restarts itself, until it goes off or is cut."""
        while self._wanted.is_set():
            process, qmp = self._process, self.qmp
            if process is None or qmp is None:
                return
            process.wait()
            with self._lock:
                if self._process is not process or not self._wanted.is_set() or not self._restarts(qmp):
                    return
                try:
                    self._again()
                except (AssertionError, OSError, RuntimeError, ValueError) as error:  # told to whoever waits
                    self.fault = error
                    return

    @staticmethod
    def _restarts(qmp: Qmp) -> bool:
        """Whether QEMU ended because the guest, or its watchdog, asked for a new start."""
        deadline = time.monotonic() + 10
        while not qmp.closed and time.monotonic() < deadline:
            time.sleep(0.01)
        return any("reset" in str(each.get("reason", "")) for each in qmp.happened("SHUTDOWN"))

    def _again(self) -> None:
        said = bytes(self.screen.log[self._mark :])
        tryboot = pifirmware.asked_to_try(said)
        self._drop()
        self._begin(tryboot)

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.wait(10)
        if self._serial is not None:
            self._serial.close()
            self._serial = None

    def cut(self) -> None:
        """Pull the plug; the register is empty afterwards."""
        self._wanted.clear()
        with self._lock:
            super().cut()
        if self._supervisor is not None:
            self._supervisor.join(30)
            self._supervisor = None

    def wait_off(self, limit: float = 180.0) -> None:
        """Wait until it has gone off by itself. Raises TimeoutError."""
        self._wanted.clear()
        super().wait_off(limit)
