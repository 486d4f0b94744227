"""What runs in a node cannot reboot, power off, write to or see the machine that it runs on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from tests.lab.box import FOR_CONTAINERS, GIVEN_UP
from tests.lab.client import CHECKOUT, Lab, LabError
from tests.lab.conftest import needs_lab
from tests.support import wait_for_sync

CALLS = """
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(result):
    return [result, os.strerror(ctypes.get_errno()) if result else ""]
class When(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("rest", ctypes.c_long)]
print(json.dumps({
    "reboot": tried(libc.reboot(0x89abcdef)),
    "clock": tried(libc.clock_settime(0, ctypes.byref(When(2_000_000_000, 0)))),
    "mount": tried(libc.mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None)),
    "unmount": tried(libc.umount2(b"/proc/sys", 2)),
    "disk": tried(libc.mknod(b"/root/disk", 0o60600, os.makedev(254, 0))),
    "module": tried(libc.syscall(175 if os.uname().machine == "x86_64" else 105, b"", 0, b"")),
    "namespace": tried(libc.unshare(0x00020000)),
}))
"""
"""The call that reboot(2) gets here only turns Ctrl-Alt-Del on; it wants the same right as a real reboot."""


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def test_rights_that_reach_out_are_gone_before_anything_runs(lab: Lab) -> None:
    for name in ("nas", "control-pc"):
        init = lab.node(name)["pid"]
        for line in Path(f"/proc/{init}/status").read_text().splitlines():
            if line.startswith(("CapEff", "CapPrm", "CapBnd")):
                held = int(line.split()[1], 16)
                assert [each for each, bit in (GIVEN_UP | FOR_CONTAINERS).items() if held >> bit & 1] == []
        for kind in ("net", "mnt", "pid", "uts", "ipc", "time"):
            assert os.readlink(f"/proc/{init}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def test_calls_that_reach_out_are_refused(lab: Lab) -> None:
    test_rights_that_reach_out_are_gone_before_anything_runs(lab)
    told = json.loads(lab.exec("nas", "python3", "-c", CALLS))
    if told["module"][1] == "Function not implemented":
        del told["module"]  # a kernel without modules
    assert {name: said for name, (_, said) in told.items()} == dict.fromkeys(told, "Operation not permitted")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/panic",
        "/proc/sys/vm/drop_caches",
        "/sys/power/state",
        "/proc/irq/default_smp_affinity",
    ],
)
def test_what_the_kernel_offers_root_cannot_be_opened_for_writing(lab: Lab, path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"this kernel has no {path}")
    with pytest.raises(LabError, match=r"Read-only file system|No such file"):
        lab.exec("nas", "python3", "-c", f"import os; os.open({path!r}, os.O_WRONLY)")


def test_files_that_a_node_changes_stay_its_own(lab: Lab) -> None:
    readme = CHECKOUT / "README.md"
    paths = [Path("/etc/passwd"), Path("/etc/hosts"), Path("/usr/bin/factor"), readme]
    before = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    for path in paths[:2]:
        lab.exec("control-pc", "sh", "-c", f"cp {path} /root/kept && echo of the lab >> {path}")
        assert "of the lab" in lab.exec("control-pc", "tail", "-n1", str(path))
        lab.exec("control-pc", "cp", "/root/kept", str(path))
    with contextlib.suppress(LabError):  # where it lies decides whether the node has a copy, or sees it without writing
        lab.exec("control-pc", "sh", "-c", f"echo of the lab >> {readme}")
    lab.exec(
        "nas", "sh", "-c", "mv /usr/bin/factor /usr/bin/factor2 && mkdir -p /etc/lab-probe /var/lib/lab-probe /opt/lab-probe"
    )
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == before
    assert not [path for path in ("/etc/lab-probe", "/var/lib/lab-probe", "/opt/lab-probe") if Path(path).exists()]
    with pytest.raises(LabError):
        lab.exec("primecore1", "test", "-e", "/etc/lab-probe")
    lab.exec("nas", "mv", "/usr/bin/factor2", "/usr/bin/factor")


def test_a_node_sees_neither_the_machines_processes_nor_its_people(lab: Lab) -> None:
    seen = lab.exec("nas", "ps", "-eo", "args")
    assert "pytest" not in seen
    assert "kthreadd" not in seen
    assert len(seen.splitlines()) < 40, seen  # its own, and what an appliance that looks at it runs there
    with pytest.raises(LabError, match="No such process"):
        lab.exec("nas", "sh", "-c", f"kill -0 {os.getpid()} 2>&1 || (echo No such process >&2; exit 1)")
    assert lab.exec("nas", "ls", "/root", "/home").split() == ["/home:", "/root:"]
    assert lab.exec("nas", "sh", "-c", f"ls {CHECKOUT} 2>/dev/null || true") == ""
    people = [line for line in lab.exec("nas", "cat", "/etc/shadow").splitlines() if line.split(":")[1] != "*"]
    assert people == []
    assert "default" not in lab.exec("primecore1", "ip", "route")


@pytest.mark.parametrize("how", ["poweroff", "systemctl poweroff", "shutdown -h now", "halt"])
def test_a_node_that_powers_off_is_off_and_the_machine_is_not(lab: Lab, how: str) -> None:
    machine = boot()
    lab.exec("primecore3", *how.split())
    lab.ask("ended", node="primecore3")
    told = lab.node("primecore3")
    assert (told["state"], told["pid"]) == ("off", 0)
    assert boot() == machine
    lab.start("primecore3")


def test_a_lab_whose_keeper_is_killed_leaves_nothing() -> None:
    needs_lab()
    lab = Lab(f"test-killed-{os.getpid()}")
    before = (Path("/proc/self/mounts").read_text(), sorted(os.listdir("/run/netns")) if Path("/run/netns").exists() else [])
    try:
        lab.up(nodes="nas", bound=True)
        told = lab.status()
        init = told["nodes"][0]["pid"]
        assert Path(f"/proc/{init}").exists()
        os.kill(told["keeper"], signal.SIGKILL)
        wait_for_sync(lambda: not Path(f"/proc/{init}").exists() and not lab.running, message="its nodes are gone")
        after = (Path("/proc/self/mounts").read_text(), sorted(os.listdir("/run/netns")) if Path("/run/netns").exists() else [])
        assert after == before
    finally:
        lab.down()
    assert not lab.directory.exists()
