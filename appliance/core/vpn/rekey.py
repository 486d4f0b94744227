"""A node's own wg-quick file with other keys in it, and nothing else changed."""

from __future__ import annotations

import itertools

import msgspec

from appliance.errors import InvalidArgumentsError


class NewKeys(msgspec.Struct, frozen=True):
    """What changes in a node's file when its keys are rotated. Never shown."""

    private: str
    preshared: str
    hub: str
    """Public key of the peer whose pre-shared key changes."""

    def __repr__(self) -> str:
        return "NewKeys(…)"

    __rich_repr__ = None  # type: ignore[assignment]


def rekeyed(text: str, new: NewKeys) -> str:
    """A node's own file with other keys; every other line stays as it is, hooks and comments too.

    Raises:
        InvalidArgumentsError: The file has no private key, or does not know the hub.
    """
    lines = text.splitlines()
    peers = [index for index, line in enumerate(lines) if line.strip().lower().startswith("[peer]")] + [len(lines)]
    ours = next(
        (
            (start, end)
            for start, end in itertools.pairwise(peers)
            if any(_value(line, "publickey") == new.hub for line in lines[start:end])
        ),
        None,
    )
    private = [index for index, line in enumerate(lines[: peers[0]]) if _value(line, "privatekey")]
    if ours is None or len(private) != 1:
        lacks = "does not know this hub" if ours is None else "has no PrivateKey"
        raise InvalidArgumentsError(
            f"The node's configuration {lacks}.", "provision the node first: `prime-spark vpn peer provision NAME`."
        )
    start, end = ours
    before = [index for index in range(start, end) if _value(lines[index], "presharedkey")]
    key = next(index for index in range(start, end) if _value(lines[index], "publickey"))
    lines[private[0]] = f"PrivateKey = {new.private}"
    for index in before:
        lines[index] = f"PresharedKey = {new.preshared}"
    if not before:
        lines.insert(key + 1, f"PresharedKey = {new.preshared}")
    return "\n".join(lines) + "\n"


def secrets_in(text: str, hub: str) -> tuple[str, str]:
    """A node's present private key, and its pre-shared key with the hub (empty for none), as `rekeyed` finds them."""
    private = next((value for line in text.splitlines() if (value := _value(line, "privatekey"))), "")
    inside, preshared, known = False, "", ""
    for line in text.splitlines():
        if line.strip().startswith("["):
            if inside and known == hub:
                break
            inside, preshared, known = line.strip().lower().startswith("[peer]"), "", ""
        known = _value(line, "publickey") or known
        preshared = _value(line, "presharedkey") or preshared
    return private, preshared if known == hub else ""


def _value(line: str, key: str) -> str:
    found, equals, value = line.partition("#")[0].partition("=")
    return value.strip() if equals and found.strip().lower() == key else ""
