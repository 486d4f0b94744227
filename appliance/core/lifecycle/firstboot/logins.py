"""Who may log in at the machine itself: passwd, shadow, group, keys; the image's own accounts stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.core.lifecycle.firstboot.model import Login

HOMES = "/home/"
SHELL = "/bin/bash"
GROUPS = ("sudo", "adm", "systemd-journal")
"""Of administrators, where the image has them."""
NOBODY = 60000
"""Numbers from 1000 to here are people's."""
SSHD = """# Written at every start from the identity of this machine.
AuthorizedKeysFile /etc/ssh/authorized_keys/%u .ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
"""


def files(root: Path, logins: Sequence[Login]) -> Iterator[tuple[str, str, int]]:
    """(path below the root, text, mode) of each file that says so."""
    gone = _ours(root)
    if not logins and not gone:
        return
    passwd = [f"{each.name}:x:{each.uid}:{each.uid}::{HOMES}{each.name}:{SHELL}" for each in logins]
    yield "etc/passwd", _with(root / "etc/passwd", gone, passwd), 0o644
    shadow = [f"{each.name}:{each.hash or '*'}:::::::" for each in logins]  # the day of the change: unknown, as the clock is
    yield "etc/shadow", _with(root / "etc/shadow", gone, shadow), 0o640
    yield "etc/group", _groups(root, gone, logins), 0o644
    if (root / "etc/gshadow").exists():
        admins = _members(root / "etc/gshadow", gone, logins)
        yield "etc/gshadow", "".join(f"{line}\n" for line in (*admins, *(f"{each.name}:!::" for each in logins))), 0o640
    yield "etc/ssh/sshd_config.d/10-prime-spark.conf", SSHD, 0o644
    for each in logins:
        if each.keys:
            yield f"etc/ssh/authorized_keys/{each.name}", "".join(f"{key}\n" for key in each.keys), 0o644
    free = [each.name for each in logins if each.admin and not each.hash]
    text = "# Administrators without a password: nothing could be asked of them.\n"
    yield "etc/sudoers.d/prime-spark", text + "".join(f"{name} ALL=(ALL:ALL) NOPASSWD: ALL\n" for name in free), 0o440


def _ours(root: Path) -> set[str]:
    """People whom an earlier call wrote."""
    rows = [line.split(":") for line in _lines(root / "etc/passwd")]
    return {
        row[0] for row in rows
        if len(row) == 7 and row[2].isdigit() and 1000 <= int(row[2]) < NOBODY and row[5] == f"{HOMES}{row[0]}"
    }  # fmt: skip


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _with(path: Path, gone: set[str], added: Sequence[str]) -> str:
    names = gone | {line.partition(":")[0] for line in added}
    kept = [line for line in _lines(path) if line.partition(":")[0] not in names]
    return "".join(f"{line}\n" for line in (*kept, *added))


def _groups(root: Path, gone: set[str], logins: Sequence[Login]) -> str:
    kept = _members(root / "etc/group", gone, logins)
    return "".join(f"{line}\n" for line in (*kept, *(f"{each.name}:x:{each.uid}:" for each in logins)))


def _members(path: Path, gone: set[str], logins: Sequence[Login]) -> list[str]:
    """The image's groups, with the administrators in theirs."""
    names, admins = gone | {each.name for each in logins}, [each.name for each in logins if each.admin]
    found = []
    for line in _lines(path):
        fields = line.split(":")
        if fields[0] in names or len(fields) != 4:
            continue
        members = [each for each in fields[3].split(",") if each and each not in names]
        found.append(":".join((*fields[:3], ",".join([*members, *(admins if fields[0] in GROUPS else ())]))))
    return found
