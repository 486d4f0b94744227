"""What the texts of the first-boot file must look like; each check says what to write instead, and repeats no secret."""

from __future__ import annotations

import difflib
import functools
import ipaddress
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance.core.auth import MIN_PASSWORD, fingerprint
from appliance.core.auth import NAME as USER
from appliance.errors import InvalidArgumentsError
from appliance.settingforms import SettingError

LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
KINDS = ("wired", "wifi")
"""Interfaces of a kind."""
SSH_KEYS = re.compile(
    r"ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com"
)
"""Those that OpenSSH 10 lets in; DSA it does not."""
LEAST_RSA = 1024
"""Bits (sshd_config(5), RequiredRSASize)."""
HOSTNAME = re.compile(LABEL)
DOMAIN = re.compile(rf"{LABEL}(\.{LABEL})*")
INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
CRYPT = re.compile(
    r"\$g?y\$[./A-Za-z0-9]{1,32}\$[./A-Za-z0-9]{0,86}\$[./A-Za-z0-9]{43}|"
    r"\$6\$(rounds=[1-9]\d{3,6}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}|"
    r"\$5\$(rounds=[1-9]\d{3,6}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43}|"
    r"\$2b\$(0[4-9]|1[0-5])\$[./A-Za-z0-9]{53}"
)
"""Whole hashes as crypt(5) has them: yescrypt, SHA-512, SHA-256, bcrypt."""
ARGON = re.compile(r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,2}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}")
MOST_KIB, MOST_PASSES = 1 << 18, 10
"""Of a hash for the appliance: it has to be computed at each login."""
RESERVED = re.compile(
    r"root|daemon|bin|sys|sync|games|man|lp|mail|news|uucp|proxy|www-data|backup|list|irc|_apt|nobody|messagebus|sshd|sudo|adm|"
    r"polkitd|rauc|statd|prime-spark|systemd-.*|_.*"
)
"""Names of accounts that the system has."""
OWN_SECRETS = frozenset({"audit.key", "audit.mark", "ssh_host_ed25519_key", "backup.password"})
"""Made on the device, each for itself."""
RECOVERY = "write what `prime-spark backup key` showed: AGE-SECRET-KEY-1…"
AGE = re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]{20,100}")
SECRET = re.compile(r"[a-z0-9][A-Za-z0-9._-]{0,99}")


class PlacedError(SettingError):
    """A wrong value with the key below the table that was looked at.

    Args:
        key: Where it stands there.
        message: What is wrong.
        next_step: What to write instead.
    """

    def __init__(self, key: tuple[str | int, ...], message: str, next_step: str) -> None:
        super().__init__(message, next_step)
        self.key = key


def hostname(text: str) -> str:
    """A name of a machine, without a domain. Raises SettingError."""
    if text and HOSTNAME.fullmatch(text) is None:
        step = "write 1 to 63 letters, digits and dashes, such as control-pc; no dot, no blank."
        raise SettingError(f"{text[:80]!r} is no name of a machine", step)
    return text


def timezone(text: str) -> str:
    """A time zone. Raises SettingError."""
    known = zoneinfo.available_timezones()  # none at all on a computer without the database: its form alone counts then
    if text and (text not in known if known else re.fullmatch(r"[A-Za-z0-9_+/-]{1,64}", text) is None):
        near = difflib.get_close_matches(text, sorted(known), 1, 0.5)
        step = f"did you mean {near[0]}?" if near else "write one such as Europe/Zurich, or UTC."
        raise SettingError(f"there is no time zone {text[:80]!r}", step)
    return text


def locale(text: str) -> str:
    """A locale's name. Raises SettingError."""
    if text and re.fullmatch(r"[A-Za-z]{1,3}(_[A-Z]{2})?\.(UTF-8|utf8)|C|POSIX", text) is None:
        raise SettingError(f"{text[:80]!r} is no locale", "write C.UTF-8, or one such as en_GB.UTF-8.")
    return text


def keymap(text: str) -> str:
    """A keyboard's layout, or the variant of one. Raises SettingError."""
    if text and re.fullmatch(r"[a-z][A-Za-z0-9_-]{0,31}", text) is None:
        raise SettingError(f"{text[:80]!r} is no layout of a keyboard", "write one such as us, gb, de, ch or fr.")
    return text


def user(text: str) -> str:
    """A user's name, which is no account of the system's. Raises SettingError."""
    if USER.fullmatch(text) is None:
        step = "use a to z, 0 to 9, _ and -, starting with a letter, 32 at most."
        raise SettingError(f"{text[:80]!r} is not a user name", step)
    if RESERVED.fullmatch(text):
        raise SettingError(f"{text} is an account of the system", "choose another name.")
    return text


def unmasked(text: str) -> str:
    """A secret that was not struck out. Raises SettingError."""
    if text and not text.strip("*"):
        step = "write it again, or take this entry away: what was applied stays."
        raise SettingError("it was struck out when this file was applied", step)
    if "\0" in text:
        raise SettingError("it contains a sign that no text has", "write it without.")
    return text


def password(text: str) -> str:
    """A password. Raises SettingError."""
    if unmasked(text) and len(text) < MIN_PASSWORD:
        raise SettingError(f"the password is shorter than {MIN_PASSWORD} characters", "choose a longer one.")
    if len(text.encode()) > 500 or any(ord(sign) < 32 for sign in text):
        raise SettingError("the password cannot be typed at a login", "write at most 500 signs, on one line.")
    return text


def kind_of_hash(text: str) -> str:
    """`argon2` or `crypt`. Raises SettingError."""
    unmasked(text)
    if found := ARGON.fullmatch(text):
        if not (8 <= int(found[1]) <= MOST_KIB and 1 <= int(found[2]) <= MOST_PASSES and 1 <= int(found[3]) <= 8):
            step = f"use at most m={MOST_KIB}, t={MOST_PASSES}, p=8: it is computed at each login."
            raise SettingError("this hash takes too much to check", step)
        return "argon2"
    if CRYPT.fullmatch(text):
        return "crypt"
    step = 'give "$argon2id$…" for the appliance, what `mkpasswd` prints for the shell; or simply password.'
    raise SettingError("this is no hash that can be used", step)


def keys(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Public keys in OpenSSH's form. Raises SettingError."""
    for number, line in enumerate(lines, 1):
        try:
            if any(ord(sign) < 32 for sign in line.strip()):
                raise InvalidArgumentsError("")
            fingerprint(line)
        except InvalidArgumentsError:
            step = "give the one line of a .pub file, such as ~/.ssh/id_ed25519.pub."
            raise SettingError(f"number {number} is no public key in OpenSSH's form", step) from None
        _lets_in(number, line)
    return tuple(line.strip() for line in lines)


def _lets_in(number: int, line: str) -> None:
    """Whether OpenSSH takes the key at a login. Raises SettingError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    kind = line.split(maxsplit=1)[0]
    if SSH_KEYS.fullmatch(kind) is None:
        step = "make one with `ssh-keygen -t ed25519`, and give the line of its .pub file."
        raise SettingError(f"number {number} is of the kind {kind[:40]}, with which nobody gets in", step)
    try:
        found = load_ssh_public_key(" ".join(line.split()[:2]).encode())
    except (ValueError, UnsupportedAlgorithm):
        told = f"number {number} is no whole public key"
        raise SettingError(told, "copy the line of the .pub file again, all of it.") from None
    if isinstance(found, RSAPublicKey) and found.key_size < LEAST_RSA:
        step = "make one with `ssh-keygen -t ed25519`."
        raise SettingError(f"number {number} has {found.key_size} bits, with which nobody gets in", step)


def radio(text: str) -> str:
    """The name of one network interface: none has neither digit nor the hardware's address. Raises SettingError."""
    if INTERFACE.fullmatch(text) is None or re.search(r"\d|^enx[0-9a-f]{12}$", text) is None:
        raise SettingError(f"{text[:80]!r} is no network interface", "write one as `ip link` calls it, such as wlan0.")
    return text


def interface(text: str) -> str:
    """A network interface's name, or a kind of them. Raises SettingError."""
    if text in KINDS:
        return text
    if text.lower() in KINDS:
        raise SettingError(f"{text!r} is no network interface", f"write {text.lower()}, in small letters.")
    try:
        return radio(text)
    except SettingError as error:
        step = "write wired or wifi; or one as `ip link` calls it, such as end0 or wlan0."
        raise SettingError(str(error), step) from None


def address(text: str) -> str:
    """An address of this machine with its prefix. Raises SettingError."""
    try:
        if "/" not in text:
            raise ValueError
        found = ipaddress.ip_interface(text)
    except ValueError:
        step = "write it with the length of its prefix, such as 192.0.2.10/24."
        raise SettingError(f"{text[:80]!r} is no address of an interface", step) from None
    net = found.network
    if net.num_addresses > 2 and found.ip in {net.network_address, net.broadcast_address} and net.version == 4:
        raise SettingError(f"{text} is the address of the whole network", "write one of its machines, such as 192.0.2.10/24.")
    return text


def plain_address(text: str) -> str:
    """An address without a prefix. Raises SettingError."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise SettingError(f"{text[:80]!r} is no address", "write one such as 192.0.2.1, without a prefix.") from None
    return text


def domain(text: str) -> str:
    """A domain. Raises SettingError."""
    if len(text) > 253 or DOMAIN.fullmatch(text) is None:
        raise SettingError(f"{text[:80]!r} is no domain", "write one such as example.net.")
    return text


def reachable(addresses: Sequence[str], gateways: Sequence[str], *, dhcp: bool | None) -> None:
    """Whether they fit each other. Raises SettingError."""
    if dhcp is False and not addresses:
        raise PlacedError(("dhcp",), "without DHCP there is no address", "give address, or take dhcp = false away.")
    nets = [ipaddress.ip_interface(each).network for each in addresses]
    for each in gateways:
        gateway = ipaddress.ip_address(each)
        same = [net for net in nets if net.version == gateway.version]
        if not same:
            raise PlacedError(
                ("gateway",), f"the gateway {each} has no address beside it", "give an address of the same network."
            )
        if not gateway.is_link_local and not any(gateway in net for net in same):
            told = ", ".join(str(net) for net in same)
            raise PlacedError(
                ("gateway",), f"the gateway {each} is not in the network {told}", "mend the prefix, or the gateway."
            )
        if any(ipaddress.ip_interface(mine).ip == gateway for mine in addresses):
            raise PlacedError(("gateway",), f"the gateway {each} is this machine's own address", "write the router's.")


def ssid(text: str) -> str:
    """A Wi-Fi network's name. Raises SettingError."""
    if not 1 <= len(text.encode()) <= 32:
        raise SettingError("a name of a Wi-Fi network has 1 to 32 bytes", "write it as the router shows it.")
    return text


def country(text: str) -> str:
    """A country's two letters. Raises SettingError."""
    if re.fullmatch(r"[A-Z]{2}", text) is None:
        raise SettingError(f"{text[:20]!r} is no country", "write its two capital letters, such as CH, DE, GB or US.")
    if countries() and text not in countries():
        step = "write GB." if text == "UK" else "write its two capital letters (ISO 3166), such as CH, DE, GB or US."
        raise SettingError(f"{text!r} is no country", step)
    return text


def wifi_password(text: str, security: str) -> None:
    """Whether a Wi-Fi password fits its kind. Raises SettingError."""
    if security == "open":
        if text:
            raise PlacedError(("password",), "an open network has no password", "take password or security away.")
        return
    if not text:
        raise SettingError("the password is missing", 'write it; or security = "open" where there is none.')
    derived = re.fullmatch(r"[0-9A-Fa-f]{64}", text) is not None
    if derived and security == "wpa3":
        raise PlacedError(("password",), "WPA3 has no derived keys", "write the password itself.")
    if not derived and not (8 <= len(text) <= 63 and all(32 <= ord(sign) < 127 for sign in text)):
        step = "write it as the router shows it; or the 64 hexadecimal digits of `wpa_passphrase`."
        raise PlacedError(("password",), "a Wi-Fi password has 8 to 63 letters, digits and signs of the English keyboard", step)


def beside(text: str) -> str:
    """A file beside this one. Raises SettingError."""
    if text and (re.fullmatch(r"[^/\\\x00-\x1f]{1,200}", text) is None or text in {".", ".."}):
        raise SettingError(
            f"{text[:80]!r} is no file beside this one", "put it on the same partition, and write its name alone."
        )
    return text


def recovery_key(text: str) -> str:
    """A recovery key of a file or a repository. Raises SettingError."""
    if unmasked(text) and (len(text) < 8 or any(ord(sign) < 32 for sign in text)):
        raise SettingError("this is no recovery key", RECOVERY)
    return text


def usable_hash(text: str) -> str:
    """A hash of a password. Raises SettingError."""
    kind_of_hash(text)
    return text


def secret(name: str) -> str:
    """A name of a secret that may be given. Raises SettingError."""
    if SECRET.fullmatch(name) is None or ".." in name:
        raise SettingError(f"{name[:80]!r} is no name of a secret", "write one such as kafka.password (with quotes around it).")
    if name in OWN_SECRETS:
        raise SettingError(f"{name} is made on the device", "take it away; a backup brings the old one back.")
    return name


def once(names: Sequence[str], what: str, table: str = "", key: str = "name") -> None:
    """Whether each is there once.

    Args:
        names: What must differ.
        what: What they are.
        table: The list of tables in which they stand.
        key: Under which they stand there.

    Raises:
        PlacedError: One is there twice; it names the second.
    """
    for index, name in enumerate(names):
        if name in names[:index]:
            raise PlacedError((table, index, key), f"the {what} {name} is there twice", "take one of the two away.")


def addresses_once(interfaces: Mapping[str, Sequence[str]]) -> None:
    """Whether each address is there once. Raises SettingError."""
    owners: dict[object, str] = {}
    for name, given in interfaces.items():
        for each in given:
            same = owners.setdefault(ipaddress.ip_interface(each).ip, name)
            if same != name:
                told = f"{each} is the address of {same} too"
                raise PlacedError(("network", name, "address"), told, "give each interface an address of its own.")


@functools.cache
def countries() -> frozenset[str]:
    """Two letters of each country (ISO 3166, as the time zones' database has it); empty where that is not there."""
    for folder in zoneinfo.TZPATH:
        try:
            lines = Path(folder, "iso3166.tab").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        return frozenset(line[:2] for line in lines if not line.startswith("#"))
    return frozenset()
