"""What the texts of [mounts.NAME] must look like; each check says what to write instead, and repeats no password."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from appliance.core.lifecycle.firstboot.words import DOMAIN, unmasked
from appliance.settingforms import SettingError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
PLACE = re.compile(rf"/(mnt|media)(/{PART}){{1,4}}")
EXPORT = re.compile(rf"/({PART}(/{PART})*/?)?")
SHARE = re.compile(rf"{PART}(/{PART})*")
DISK = re.compile(r"LABEL=[A-Za-z0-9_][A-Za-z0-9._-]{0,63}|UUID=[0-9A-Fa-f-]{4,36}")
STEPS = {
    "nfs": 'write the machine and its export: "nas.example.net:/export"; letters, digits, ., _ and - only.',
    "smb": 'write the machine and its share: "//nas.example.net/share"; letters, digits, ., _ and - only.',
    "disk": 'write "LABEL=BACKUPS", or "UUID=…" as `lsblk -f` shows it; letters, digits, ., _ and - only.',
}


def name(text: str) -> str:
    """By which a mount is known. Raises SettingError."""
    if NAME.fullmatch(text) is None:
        raise SettingError(f"{text[:80]!r} is no name of a mount", "write letters, digits, _ and -, such as [mounts.nas].")
    return text


def place(text: str) -> str:
    """A directory below /mnt or /media. Raises SettingError."""
    if text and PLACE.fullmatch(text) is None:
        step = "write a directory below /mnt or /media, such as /mnt/nas; letters, digits, ., _ and - only."
        raise SettingError(f"{text[:80]!r} is no place for a disk", step)
    return text


def origin(kind: str, text: str) -> None:
    """Whether that can be mounted. Raises SettingError."""
    if kind == "disk":
        good = DISK.fullmatch(text) is not None
    elif kind == "nfs":
        host, colon, export = text.rpartition(":")
        good = bool(colon) and _host(host) and EXPORT.fullmatch(export) is not None
    else:
        host, slash, share = text.removeprefix("//").partition("/")
        good = text.startswith("//") and bool(slash) and _host(host) and SHARE.fullmatch(share) is not None
    if not good:
        raise SettingError(f"{text[:80]!r} is nothing that {kind} mounts", STEPS[kind])


def _host(text: str) -> bool:
    if text.startswith("[") and text.endswith("]"):
        return _is_ipv6(text[1:-1])
    return len(text) <= 253 and DOMAIN.fullmatch(text) is not None


def _is_ipv6(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def user(text: str) -> str:
    """A user of a share. Raises SettingError."""
    if text and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,103}", text) is None:
        raise SettingError(f"{text[:80]!r} is no user of a share", "write letters, digits, ., _, @ and -.")
    return text


def password(text: str) -> str:
    """A password of a share. Raises SettingError."""
    if len(unmasked(text).encode()) > 500 or not text.isprintable():
        raise SettingError("the password cannot be given to a share", "write at most 500 signs, on one line.")
    return text


def login(kind: str, who: str, secret: str) -> None:
    """Whether user and password fit the kind. Raises SettingError."""
    if kind != "smb" and (who or secret):
        step = "take user and password away" + ("; the NAS decides by this machine's address." if kind == "nfs" else ".")
        raise SettingError(f"{kind} takes no user and no password", step)
    if bool(who) != bool(secret):
        raise SettingError("a share takes a user and a password", "give both; or none of them where anybody may use it.")


def apart(places: Mapping[str, str]) -> None:
    """Whether each mount has a place of its own. Raises SettingError."""
    known: dict[str, str] = {}
    for mount, where in places.items():
        for other, taken in known.items():
            if f"{where}/".startswith(f"{taken}/") or f"{taken}/".startswith(f"{where}/"):
                told = f"the mounts {other} and {mount} are at {taken} and {where}, one in the other"
                raise SettingError(told, "give one of them another place: to = …")
        known[mount] = where
