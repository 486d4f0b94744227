"""Users that live as long as their service (DynamicUser=), and secrets that only it sees (LoadCredential=)."""

from __future__ import annotations

import os
import pwd
import shutil
import zlib
from pathlib import Path

from tests.lab.inside.unitfile import UnitFile

FIRST, LAST = 61184, 65519
"""systemd's range of such users."""


def user_of(file: UnitFile) -> str:
    """Who a service is: a name, or the number of a user that is in no file; empty for root."""
    name = file.get("User") or file.name.rpartition(".")[0]
    if file.flag("DynamicUser"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            return str(FIRST + zlib.crc32(name.encode()) % (LAST - FIRST + 1))
        return name
    return file.get("User")


def own(path: Path, user: str, group: str = "") -> None:
    """Give a file or folder to a service's user."""
    if user.isdigit():
        os.chown(path, int(user), int(user))
    elif user:
        shutil.chown(path, user, group or None)


def home_of(user: str) -> tuple[str, str]:
    """Home and shell."""
    if user.isdigit():
        return "/", "/usr/sbin/nologin"
    entry = pwd.getpwnam(user or "root")
    return entry.pw_dir, entry.pw_shell or "/bin/sh"


def credentials(file: UnitFile, user: str) -> dict[str, str]:
    """Show a service its secrets; the variable that says where. Raises OSError where a file is missing."""
    wanted = file.all("LoadCredential")
    if not wanted:
        return {}
    folder = Path("/run/credentials", file.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for each in wanted:
        name, _, source = each.partition(":")
        path = folder / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o400)
        path.write_bytes(Path(source or f"/etc/credstore/{name}").read_bytes())
        own(path, user)
    own(folder, user)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def over(file: UnitFile) -> None:
    """A service has ended: what was for its life alone goes."""
    shown = Path("/run/credentials")
    shutil.rmtree(shown / file.name, ignore_errors=True)
    if shown.is_dir() and not any(shown.iterdir()):
        shown.rmdir()
    if not file.flag("RuntimeDirectoryPreserve"):
        for name in file.words("RuntimeDirectory"):
            shutil.rmtree(Path("/run", name), ignore_errors=True)
