"""What all nodes of a lab have in common, laid over the machine's own files: the lab's systemctl and its kin, users without
passwords, and empty folders where the machine has its own affairs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.lab import inside
from tests.lab.plan import Plan

HIDDEN = (
    "root", "home", "srv", "mnt", "media", "etc/ssh", "etc/systemd/system", "etc/wireguard", "etc/sudoers.d", "etc/nut",
    "etc/prime-spark", "etc/postgresql", "var/log", "var/tmp", "var/spool/cron", "var/lib/prime-spark", "var/lib/redis",
    "var/lib/postgresql", "var/lib/containers", "var/lib/systemd", "tmp", "run", "dev", "proc", "sys",
)  # fmt: skip
"""Folders of the machine that no node sees; each node has its own, empty at first."""
VIRTUAL = {
    "proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue", "debugfs", "tracefs", "securityfs", "bpf",
    "pstore", "configfs", "hugetlbfs", "fusectl", "autofs", "binfmt_misc", "nsfs", "ramfs", "overlay",
}  # fmt: skip
"""File systems that a node gets of its own, or does without."""
TOOLS = (
    "usr/bin/systemctl",
    "usr/bin/journalctl",
    "usr/sbin/reboot",
    "usr/sbin/poweroff",
    "usr/sbin/halt",
    "usr/sbin/shutdown",
)
LIBRARY = "usr/lib/prime-spark-lab"
PYTHON = "/usr/bin/python3"
PACKAGE = "tests/lab/inside"
TOOL = f"""#!{PYTHON} -ES
import sys
sys.path.insert(0, "/{LIBRARY}")
from tests.lab.inside.tools import main
sys.exit(main())
"""
PAM = "auth required pam_deny.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
SSHD = """HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
UseDNS no
PrintMotd no
MaxStartups 200
MaxSessions 200
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
"""


def folder(top: Path, path: str, *, empty: bool = False) -> Path:
    """A folder of a layer, with owner and mode of the machine's own; empty: what the machine has in it is hidden."""
    made = top
    for part in Path(path).parts:
        made = made / part
        if not made.exists():
            made.mkdir()
            own = Path("/") / made.relative_to(top)
            if own.is_dir():
                status = own.stat()
                os.chown(made, status.st_uid, status.st_gid)
                made.chmod(status.st_mode & 0o7777)
    if empty:
        os.setxattr(made, "trusted.overlay.opaque", b"y")
    return made


def write(top: Path, path: str, text: str, mode: int = 0o644) -> Path:
    """A file of a layer."""
    made = folder(top, os.path.dirname(path)) / os.path.basename(path)
    made.unlink(missing_ok=True)
    made.write_text(text)
    made.chmod(mode)
    return made


def link(top: Path, path: str, aim: str) -> None:
    """A symbolic link of a layer."""
    made = folder(top, os.path.dirname(path)) / os.path.basename(path)
    made.unlink(missing_ok=True)
    made.symlink_to(aim)


def make(top: Path) -> None:
    """The layer that all nodes share."""
    top.mkdir(parents=True, exist_ok=True)
    top.chmod(0o755)
    for path in HIDDEN:
        folder(top, path, empty=True)
    (top / "root").chmod(0o700)
    for path in TOOLS:
        write(top, path, TOOL, 0o755)
    for name in ("tests", "tests/lab", PACKAGE):
        write(top, f"{LIBRARY}/{name}/__init__.py", "")
    for source in Path(inside.__file__).parent.glob("*.py"):
        shutil.copy(source, top / LIBRARY / PACKAGE / source.name)
    write(top, "etc/ssh/sshd_config", SSHD)
    write(top, "etc/pam.d/sshd", PAM)
    write(top, "etc/resolv.conf", "")
    _people(top)
    for name in ("tmp", "var/tmp"):
        (top / name).chmod(0o1777)


def _people(top: Path) -> None:
    """The system's accounts, and none of the machine's people or passwords."""
    passwd = [line for line in Path("/etc/passwd").read_text().splitlines() if _belongs(line)]
    write(top, "etc/passwd", "\n".join(passwd) + "\n")
    shadow = "".join(f"{line.partition(':')[0]}:*:19000:0:99999:7:::\n" for line in passwd)
    made = write(top, "etc/shadow", shadow, 0o640)
    status = Path("/etc/shadow").stat()
    os.chown(made, status.st_uid, status.st_gid)


def _belongs(line: str) -> bool:
    number = int(line.split(":")[2])
    return number < 1000 or number == 65534


def furnish(top: Path, plan: Plan, host_key: bytes, public: str, let_in: list[str], hosts: str) -> None:
    """A node's own files at its first start.

    Args:
        top: The layer of its changes.
        plan: It.
        host_key: Its SSH server's, as OpenSSH writes it.
        public: The public half.
        let_in: Lines of root's authorized_keys.
        hosts: All of /etc/hosts.
    """
    write(top, "etc/hostname", f"{plan.name}\n")
    write(top, "etc/hosts", hosts)
    write(top, "etc/machine-id", os.urandom(16).hex() + "\n")
    write(top, "etc/ssh/ssh_host_ed25519_key", host_key.decode(), 0o600)
    write(top, "etc/ssh/ssh_host_ed25519_key.pub", f"{public} root@{plan.name}\n")
    folder(top, "root").chmod(0o700)
    folder(top, "root/.ssh").chmod(0o700)
    write(top, "root/.ssh/authorized_keys", "".join(f"{line}\n" for line in let_in), 0o600)
    enable(top, "ssh.service")
    link(top, "etc/systemd/system/sshd.service", "/lib/systemd/system/ssh.service")


def enable(top: Path, unit: str, template: str = "") -> None:
    """Have a unit started at boot."""
    own = top / f"etc/systemd/system/{unit}"
    aim = f"/etc/systemd/system/{unit}" if own.exists() else f"/lib/systemd/system/{template or unit}"
    link(top, f"etc/systemd/system/multi-user.target.wants/{unit}", aim)


def machine_mounts(checkout: Path) -> list[str]:
    """Places where the machine has mounted further disks that nodes need too: an overlay shows one file system only."""
    wanted = ("/usr", "/var", "/etc", "/opt", "/bin", "/lib")
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        head, _, tail = line.partition(" - ")
        place, kind = head.split()[4], tail.split()[0]
        mine = place != "/" and (any(f"{place}/".startswith(f"{each}/") for each in wanted) or _above(place, checkout))
        if mine and kind not in VIRTUAL and Path(place).is_dir() and place not in found:
            found.append(place)
    return found


def is_hidden(path: Path) -> bool:
    """Whether a folder of the machine lies where nodes see nothing of it, such as in somebody's home."""
    return any(path.is_relative_to(Path("/", folder)) for folder in HIDDEN)


def _above(place: str, checkout: Path) -> bool:
    return str(checkout) == place or str(checkout).startswith(f"{place}/")
