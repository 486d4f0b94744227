"""Files of wg-quick(8): read strictly, told by line what is wrong, and written. What they would run is never run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec

from appliance.core.vpn import keys, names
from appliance.errors import InvalidArgumentsError

LARGEST = 1 << 20
"""Characters of a file; 1000 peers take a quarter of it."""
MOST_PEERS = 4096
HOOKS = frozenset({"preup", "postup", "predown", "postdown"})
"""Commands that wg-quick would run as root; they are told, and ignored."""
ONCE = frozenset({"privatekey", "listenport", "mtu", "table", "fwmark", "saveconfig", "publickey", "presharedkey", "endpoint",
                  "persistentkeepalive"})  # fmt: skip


class QuickPeer(msgspec.Struct, frozen=True):
    """A [Peer] of a file."""

    public_key: str
    allowed: tuple[str, ...] = ()
    endpoint: str = ""
    """HOST:PORT, or empty."""
    keepalive: int = 0
    """Seconds; 0 for none."""
    preshared: str = ""
    """Never shown, never logged."""
    name: str = ""
    """From a comment beside its section; empty where there is none."""

    def __repr__(self) -> str:
        return f"QuickPeer({self.public_key[:8]}…)"

    __rich_repr__ = None  # type: ignore[assignment]


class QuickFile(msgspec.Struct, frozen=True):
    """A whole file."""

    private_key: str = ""
    """Empty where the file has none (wg-quick would then run one of its commands for it)."""
    addresses: tuple[str, ...] = ()
    listen_port: int = 0
    mtu: int = 0
    dns: tuple[str, ...] = ()
    table: str = ""
    fwmark: int = 0
    peers: tuple[QuickPeer, ...] = ()
    ignored: tuple[str, ...] = ()
    """What is not taken over, each with its line."""

    def __repr__(self) -> str:
        return f"QuickFile({', '.join(self.addresses)}, {len(self.peers)} peers)"

    __rich_repr__ = None  # type: ignore[assignment]


class _Section:
    """One section while it is read."""

    def __init__(self, kind: str, line: int, name: str) -> None:
        self.kind, self.line, self.name = kind, line, name
        self.values: dict[str, Any] = {}
        self.empty = True


def parse(text: str) -> QuickFile:
    """Read a file.

    Args:
        text: The whole of it.

    Raises:
        InvalidArgumentsError: It is no such file; names the line, and never repeats a key.
    """
    if len(text) > LARGEST:
        raise InvalidArgumentsError(f"The file has {len(text)} characters; {LARGEST} at most are read.", "take a smaller one.")
    sections, ignored = _read(text)
    own = [each for each in sections if each.kind == "interface"]
    peers = [each for each in sections if each.kind == "peer"]
    if not own:
        _refuse(0, "there is no [Interface] section")
    if len(peers) > MOST_PEERS:
        _refuse(peers[MOST_PEERS].line, f"more than {MOST_PEERS} peers")
    found = tuple(_peer(each) for each in peers)
    _look_for_doubles(found, peers)
    return QuickFile(**own[0].values, peers=found, ignored=tuple(ignored))


def _read(text: str) -> tuple[list[_Section], list[str]]:
    sections: list[_Section] = []
    ignored: list[str] = []
    comment = ""
    for number, raw in enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), 1):
        line, said = _split_comment(raw)
        if any(sign < " " and sign != "\t" for sign in raw) or "\x7f" in raw:
            _refuse(number, "there is a control character in it")
        if said and not line:
            comment = said
            if sections and sections[-1].kind == "peer" and sections[-1].empty and not sections[-1].name:
                sections[-1].name = said
            continue
        if not line:
            comment = comment if said else ""
            continue
        if line.startswith("["):
            sections.append(_begin(line, number, said or comment, sections))
        elif not sections:
            _refuse(number, "a value stands before the first section; begin with [Interface]")
        else:
            _take(line, number, sections[-1], ignored)
        comment = ""
    return sections, ignored


def _split_comment(raw: str) -> tuple[str, str]:
    line, _, said = raw.partition("#")
    return line.strip(), said.strip()


def _begin(line: str, number: int, comment: str, before: list[_Section]) -> _Section:
    kind = line.lower()
    if kind not in {"[interface]", "[peer]"}:
        _refuse(number, f"{line[:40]!r} is no section; there are [Interface] and [Peer]")
    if kind == "[interface]" and any(each.kind == "interface" for each in before):
        _refuse(number, "a second [Interface]; a file has one")
    return _Section(kind[1:-1], number, comment)


def _take(line: str, number: int, section: _Section, ignored: list[str]) -> None:
    key, equals, value = (part.strip() for part in line.partition("="))
    lower = key.lower()
    if not equals or not value:
        _refuse(number, f"{key[:30]!r} has no value; write KEY = VALUE" if not _secret_like(key) else "this is no KEY = VALUE")
    section.empty = False
    if section.kind == "interface" and (lower in HOOKS or lower == "saveconfig"):
        ignored.append(f"line {number}: {key} is ignored" + ("; no command of a file is ever run" if lower in HOOKS else ""))
        return
    known = INTERFACE if section.kind == "interface" else PEER
    if lower not in known:
        there = ", ".join(sorted(name for name, _ in known.values()))
        _refuse(
            number,
            f"{'this' if _secret_like(key) else repr(key[:30])} is no key of [{section.kind.title()}]; there are {there}",
        )
    name, convert = known[lower]
    field = FIELDS[lower]
    if lower in ONCE and field in section.values:
        _refuse(number, f"{name} stands here a second time")
    try:
        found = convert(value)
    except InvalidArgumentsError as error:
        _refuse(number, f"{name}: {error.message.rstrip('.')}", error.next_step)
    section.values[field] = (*section.values.get(field, ()), *found) if isinstance(found, tuple) else found


def _secret_like(text: str) -> bool:
    """A line without its key may be a key itself, and is not repeated."""
    return len(text) > 30


def _peer(section: _Section) -> QuickPeer:
    if "public_key" not in section.values:
        _refuse(section.line, "this [Peer] has no PublicKey")
    said = re.sub(r"^(?i:name|peer|client|user|friendly_name)\s*[=:]\s*", "", section.name)
    return QuickPeer(**section.values, name=names.slug(said))


def _look_for_doubles(peers: tuple[QuickPeer, ...], sections: list[_Section]) -> None:
    seen: dict[str, int] = {}
    owner: dict[str, int] = {}
    for peer, section in zip(peers, sections, strict=True):
        if peer.public_key in seen:
            _refuse(section.line, f"this peer has the same PublicKey as the one of line {seen[peer.public_key]}")
        seen[peer.public_key] = section.line
        for network in peer.allowed:
            if owner.setdefault(network, section.line) != section.line:
                _refuse(
                    section.line,
                    f"{network} is allowed to the peer of line {owner[network]} already; WireGuard gives it to one only",
                )


def _refuse(number: int, fault: str, next_step: str = "") -> NoReturn:
    where = f"line {number}: " if number else ""
    raise InvalidArgumentsError(
        f"This wg-quick file cannot be read: {where}{fault}.", next_step or "mend that line; wg-quick(8) has the form."
    )


# -- values ------------------------------------------------------------------------------------------------------------


def _listed(convert: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def read(value: str) -> tuple[str, ...]:
        parts = [part.strip() for part in value.split(",")]
        if not all(parts):
            raise InvalidArgumentsError("there is an empty place between commas.", "take it out.")
        return tuple(dict.fromkeys(convert(part) for part in parts))

    return read


def _number(low: int, high: int, *, off: bool = False) -> Callable[[str], int]:
    def read(value: str) -> int:
        if off and value.lower() == "off":
            return 0
        base = 16 if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", value) else 10
        if not ((base == 16 and off) or re.fullmatch(r"[0-9]{1,10}", value)) or not low <= int(value, base) <= high:
            raise InvalidArgumentsError(
                f"{value[:20]!r} is no number from {low} to {high}.", f"write a number from {low} to {high}."
            )
        return int(value, base)

    return read


def _key(what: str) -> Callable[[str], str]:
    return lambda value: keys.checked(value, what)


def _dns(value: str) -> str:
    if names.is_address(value) or names.HOST.fullmatch(value):
        return value
    raise InvalidArgumentsError(
        f"{value[:60]!r} is no address of a name server, and no domain.", "write addresses with commas between."
    )


def _table(value: str) -> str:
    if re.fullmatch(r"auto|off|[0-9]{1,10}|[a-z][a-z0-9_]{0,30}", value):
        return value
    raise InvalidArgumentsError(f"{value[:20]!r} is no routing table.", "write auto, off, or the number of a table.")


Convert = Callable[[str], Any]
INTERFACE: dict[str, tuple[str, Convert]] = {
    "privatekey": ("PrivateKey", _key("private key")), "address": ("Address", _listed(names.interface)),
    "listenport": ("ListenPort", _number(0, 65535)), "mtu": ("MTU", _number(576, 65535)), "dns": ("DNS", _listed(_dns)),
    "table": ("Table", _table), "fwmark": ("FwMark", _number(0, 0xFFFFFFFF, off=True)),
}  # fmt: skip
PEER: dict[str, tuple[str, Convert]] = {
    "publickey": ("PublicKey", _key("public key")), "presharedkey": ("PresharedKey", _key("pre-shared key")),
    "allowedips": ("AllowedIPs", _listed(names.network)), "endpoint": ("Endpoint", lambda value: str(names.place(value))),
    "persistentkeepalive": ("PersistentKeepalive", _number(0, 65535, off=True)),
}  # fmt: skip
FIELDS = {
    "privatekey": "private_key", "address": "addresses", "listenport": "listen_port", "mtu": "mtu", "dns": "dns",
    "table": "table", "fwmark": "fwmark", "publickey": "public_key", "presharedkey": "preshared", "allowedips": "allowed",
    "endpoint": "endpoint", "persistentkeepalive": "keepalive",
}  # fmt: skip


# -- writing -----------------------------------------------------------------------------------------------------------


def write(file: QuickFile) -> str:
    """A file as text; what is not set is left out. It has a private key in it."""
    own = {
        "PrivateKey": file.private_key, "Address": ", ".join(file.addresses), "ListenPort": file.listen_port, "MTU": file.mtu,
        "DNS": ", ".join(file.dns), "Table": file.table, "FwMark": f"{file.fwmark:#x}" if file.fwmark else "",
    }  # fmt: skip
    return "\n".join(["[Interface]", *_lines(own), *(line for peer in file.peers for line in _peer_lines(peer))]) + "\n"


def _peer_lines(peer: QuickPeer) -> list[str]:
    values = {
        "PublicKey": peer.public_key, "PresharedKey": peer.preshared, "AllowedIPs": ", ".join(peer.allowed),
        "Endpoint": peer.endpoint, "PersistentKeepalive": peer.keepalive,
    }  # fmt: skip
    return ["", "[Peer]", *([f"# {peer.name}"] if peer.name else []), *_lines(values)]


def _lines(values: dict[str, Any]) -> list[str]:
    return [f"{name} = {value}" for name, value in values.items() if value]
