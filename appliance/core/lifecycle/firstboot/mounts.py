"""Units of systemd for shares of a NAS, and the list of disks for the program that mounts what is plugged in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from appliance.core.lifecycle.firstboot.model import Mount

UNITS = "etc/systemd/system"
PATTERNS = (f"{UNITS}/*.mount", f"{UNITS}/*.automount")
FOLDER = "etc/prime-spark-mounts"
"""Passwords of shares and the list of disks; in memory, for root alone."""
DISKS = f"{FOLDER}/disks"
HEAD = "# Written at every start from [mounts] of this machine's identity.\n"
SAFE = "nosuid,nodev,noexec,_netdev"
NFS = "vers=4,soft,softreval,timeo=100,retrans=2,retry=0"
"""Version 4 needs no rpcbind and no rpc.statd; a NAS that is gone gives an error after 30 s, and blocks nobody for ever."""
SMB = "iocharset=utf8,file_mode=0600,dir_mode=0700,soft"
PATIENCE = 25
"""Seconds in which a mount must be done; whoever asked for the directory gets an error then."""


def files(mounts: Iterable[Mount], owner: tuple[int, int] | None) -> Mapping[str, tuple[str, int]]:
    """(text, mode) by path below the root.

    Args:
        mounts: What is to be mounted.
        owner: User and group of the appliance, who writes to shares that know no owners.
    """
    found: dict[str, tuple[str, int]] = {}
    disks = []
    for each in mounts:
        if each.kind == "disk":
            disks.append(f"{each.source} {each.place} {'ro' if each.read_only else 'rw'}\n")
            continue
        unit = f"{UNITS}/{escaped(each.place)}"
        found[f"{unit}.mount"] = (_mount(each, owner), 0o644)
        found[f"{unit}.automount"] = (_automount(each), 0o644)
        if each.user:
            found[credentials(each)] = (f"username={each.user}\npassword={each.password}\n", 0o600)
    if disks:
        found[DISKS] = (HEAD + "".join(disks), 0o600)
    return found


def escaped(place: str) -> str:
    """A directory as units are named (systemd-escape --path)."""
    plain = "".join(
        "-" if sign == "/" else sign if sign.isalnum() or sign in "._:" else f"\\x{ord(sign):02x}" for sign in place
    )
    return plain.removeprefix("-")


def credentials(mount: Mount) -> str:
    """Where user and password of a share lie, below the root."""
    return f"{FOLDER}/{mount.name}.credentials"


def _options(mount: Mount, owner: tuple[int, int] | None) -> str:
    if mount.kind == "nfs":
        words = [NFS]
    else:
        words = [f"credentials=/{credentials(mount)}" if mount.user else "guest", SMB]
        if owner is not None:
            words.append(f"uid={owner[0]},gid={owner[1]},forceuid,forcegid")
    return ",".join([*words, SAFE, "ro" if mount.read_only else "rw"])


def _mount(mount: Mount, owner: tuple[int, int] | None) -> str:
    kind = "cifs" if mount.kind == "smb" else "nfs"
    return (
        f"{HEAD}[Unit]\nDescription=Mount {mount.name}\nStartLimitIntervalSec=0\n\n"
        f"[Mount]\nWhat={mount.source}\nWhere={mount.place}\nType={kind}\nOptions={_options(mount, owner)}\n"
        f"DirectoryMode=0755\nTimeoutSec={PATIENCE}\nLazyUnmount=yes\n"
    )


def _automount(mount: Mount) -> str:
    """Mounted when somebody asks for it: a NAS that is away hinders no start; any number of tries, for it may come back."""
    return (
        f"{HEAD}[Unit]\nDescription=Mount {mount.name} when it is used\nDefaultDependencies=no\nStartLimitIntervalSec=0\n"
        f"Conflicts=umount.target\nBefore=umount.target\n\n[Automount]\nWhere={mount.place}\nDirectoryMode=0755\n"
    )
