"""The values of the first start: what came of the file, and what a machine is called, reached and entered by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from appliance.core.lifecycle.firstboot.validate import Parts

NAME = "prime-spark.toml"
"""The file on the card's first partition."""
PREPARED = ".first-boot"
"""Where in the data partition it is made ready to be applied."""
OUTCOME = "first-boot.json"
"""What came of it; lies among the sockets until the next start."""
FAULT = "data-fault.json"
"""Lies there while the data partition cannot be mounted."""
IMAGE = "prime-spark"
"""IMAGE_ID of our image (os-release(5))."""
State = Literal["none", "applied", "kept", "broken", "waiting", "failed"]


class Wrong(msgspec.Struct, frozen=True):
    """One thing that is wrong in the file."""

    line: int | None
    message: str
    next_step: str


class Outcome(msgspec.Struct, frozen=True):
    """What came of the first-boot file at this start.

    `none`: there is no file. `applied`: now. `kept`: at an earlier start. `broken`: something in it is wrong, and nothing of it
    was applied. `waiting`: it cannot be applied now. `failed`: the disk refused; the next start goes on.
    """

    state: State
    file: str = ""
    line: int | None = None
    """Where it is wrong, from 1."""
    message: str = ""
    next_step: str = ""
    clock: str = ""
    """What this machine's clock showed when it was applied; it may have been wrong."""
    parts: tuple[str, ...] = ()
    """Tables that were applied."""
    warnings: tuple[str, ...] = ()
    others: tuple[Wrong, ...] = ()
    """What else is wrong in it."""

    @property
    def wrong(self) -> bool:
        """Whether somebody has to do something."""
        return self.state in {"broken", "waiting", "failed"}


class Login(msgspec.Struct, frozen=True):
    """Somebody who may log in at the machine itself."""

    name: str
    uid: int
    """Of their group too."""
    admin: bool = False
    hash: str = ""
    """As crypt(5) has it; empty: only keys open the account."""
    keys: tuple[str, ...] = ()
    """Lines of .pub files."""


class Interface(msgspec.Struct, frozen=True):
    """How a network interface gets its addresses."""

    name: str
    """Of the interface; or `wired` or `wifi` for all of that kind."""
    dhcp: bool = True
    address: tuple[str, ...] = ()
    """With the length of the prefix."""
    gateway: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


class Radio(msgspec.Struct, frozen=True):
    """A Wi-Fi network."""

    ssid: str
    interface: str = "wlan0"
    security: str = "wpa2"
    """`wpa2`, `wpa3` or `open`."""
    psk: str = ""
    """64 hexadecimal digits, derived from passphrase and name: the passphrase cannot be had from them."""
    passphrase: str = ""
    """Only for WPA3, which has nothing else."""
    country: str = ""
    hidden: bool = False


class Mount(msgspec.Struct, frozen=True):
    """A share of a NAS, or a disk."""

    name: str
    kind: str
    """`nfs`, `smb` or `disk`."""
    source: str
    """As mount(8) takes it: HOST:/EXPORT, //HOST/SHARE, LABEL=…, UUID=…"""
    place: str
    """A directory below /mnt or /media."""
    user: str = ""
    password: str = ""
    """Of a share: its server takes nothing else, and so it cannot be kept as a hash."""
    read_only: bool = False


class Identity(msgspec.Struct, frozen=True):
    """What is written into /etc at every start; lies in the data partition."""

    hostname: str = ""
    timezone: str = ""
    locale: str = ""
    keymap: str = ""
    keymap_variant: str = ""
    logins: tuple[Login, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    radios: tuple[Radio, ...] = ()
    mounts: tuple[Mount, ...] = ()


class Record(msgspec.Struct, frozen=True):
    """That a file was applied, and how far the erasing of its secrets has come."""

    masked: str
    """SHA-256 of the file with its secrets struck out."""
    length: int
    """Bytes of the file as it was."""
    clock: str
    device: str
    version: str
    parts: tuple[str, ...]
    erased: bool = False
    files: tuple[str, ...] = ()
    """Further files beside it that hold a secret."""
    warnings: tuple[str, ...] = ()


class Person(msgspec.Struct, frozen=True):
    """An account of the appliance to be there."""

    name: str
    role: str
    hash: str = ""
    """argon2id; empty: what there is stays."""
    keys: tuple[str, ...] | None = None
    """None: what there is stays."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be carried out to its end, once it lies whole on the disk."""

    record: Record
    people: tuple[Person, ...] = ()
    homes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One application of a file.

    Attributes:
        boot: The card's first partition.
        data: The data partition.
        root: Of the system.
        run: Where the outcome is told.
        parts: What the appliance outside of the core knows.
        version: Of the program.
        clock: What the clock shows.
    """

    boot: Path
    data: Path
    root: Path
    run: Path
    parts: Parts
    version: str
    clock: str


class Fault(msgspec.Struct, frozen=True):
    """Why the data partition is not used, and what to do."""

    reason: str
    next: str


def read_fault(run: Path) -> Fault | None:
    """Why the data partition is not used; None where it is."""
    try:
        return msgspec.json.decode((run / FAULT).read_bytes(), type=Fault)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return Fault(f"{FAULT} cannot be read: {error}", "see `journalctl -u prime-spark-data`")


def identity_file(data: Path) -> Path:
    """Where a machine's identity lies on the data partition."""
    return data / "system/identity.json"


def record_file(data: Path) -> Path:
    """Where it is written that a file was applied."""
    return data / "system/first-boot.json"


def home_of(data: Path) -> Path:
    """The appliance's own part of the data partition (PRIME_SPARK_HOME)."""
    return data / "prime-spark"


def read_outcome(run: Path) -> Outcome | None:
    """What came of the file at this start; None where this machine was not started from our image, or it cannot be read."""
    try:
        return msgspec.json.decode((run / OUTCOME).read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
