"""Keys that may log in on the nodes (authorized_keys)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.fleet.operations.kinds.users import LOGIN
from appliance.core.model import Role

KEY = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+)\s+([A-Za-z0-9+/]+={0,3})(?:\s+(.*))?$")
PLACE = r"""
user=$1
line=$(getent passwd "$user" 2>/dev/null || grep "^$user:" /etc/passwd)
home=$(printf '%s' "$line" | cut -d: -f6)
[ -n "$home" ] || { echo "there is no account $user here" >&2; exit 67; }
file=$home/.ssh/authorized_keys
[ "$user" != root ] || [ ! -e /etc/dropbear/authorized_keys ] || file=/etc/dropbear/authorized_keys
"""
READ = PLACE + '[ ! -e "$file" ] || cat "$file"'
WRITE = (
    PLACE
    + r"""
umask 077
folder=$(dirname "$file")
[ ! -L "$folder" ] && [ ! -L "$file" ] || { echo "$file is reached by a link" >&2; exit 73; }
if [ ! -d "$folder" ]; then mkdir -p "$folder" && chown -h "$user:" "$folder"; fi
if [ "$2" = none ]; then rm -f "$file"; exit; fi
new=$(mktemp "$folder/.authorized_keys.XXXXXX") || exit 73
cat >"$new" && { [ ! -e "$file" ] || chmod "$(stat -c %a "$file")" "$new"; } &&
  chown -h "$user:" "$new" && sync && mv -f "$new" "$file"
status=$?
[ $status = 0 ] || rm -f "$new"
exit $status
"""
)
MOST = 256 << 10
"""Bytes of a file that is taken up."""


def parse(line: str) -> tuple[str, str, str]:
    """Type, key in Base64 and comment of a line of authorized_keys; the options before it are left out.

    Raises:
        ValueError: It holds no key.
    """
    found = KEY.search(line.strip()) if not line.lstrip().startswith("#") else None
    if found is None:
        raise ValueError("this is no public key")
    try:
        body = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        raise ValueError("this is no public key: its middle is no Base64") from None
    if not body[4:].startswith(found[1].encode()):
        raise ValueError("this is no public key: it is not of the type that it names")
    return found[1], found[2], (found[3] or "").strip()


def fingerprint(key: str) -> str:
    """SHA-256 of a key in Base64, as `ssh-keygen -lf` prints it."""
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def entries(text: str) -> list[dict[str, str]]:
    """The keys of a file, with type, fingerprint and comment; what is no key is left out."""
    found = []
    for line in text.splitlines():
        try:
            kind, key, comment = parse(line)
        except ValueError:
            continue
        found.append({"type": kind, "fingerprint": fingerprint(key), "comment": comment})
    return found


class Adding(Params):
    """A key that may log in."""

    user: str = Field(pattern=LOGIN, description="Whose account")
    key: str = Field(min_length=20, max_length=8000, description="The public key, as its .pub file has it")

    @field_validator("key")
    @classmethod
    def _is_key(cls, key: str) -> str:
        if "\n" in key.strip():
            raise PydanticCustomError("key", "one line is wanted")
        try:
            parse(key)
        except ValueError as error:
            raise PydanticCustomError("key", str(error).replace("{", "(")) from None
        return key.strip()


class Removing(Params):
    """A key that goes."""

    user: str = Field(pattern=LOGIN, description="Whose account")
    fingerprint: str = Field(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$", description="Of the key, as `fleet key-list` shows it")


class KeyKind(Kind):
    """Base of both: the file of before is what takes it back."""

    role = Role.admin

    async def _file(self, host: Host, user: str) -> str:
        return await host.read(READ, user, sudo=user != host.node.user)

    async def _write(self, host: Host, user: str, text: str | None) -> None:
        mark = "none" if text is None else "some"
        await host.do(WRITE, user, mark, sudo=user != host.node.user, stdin=(text or "").encode())

    def _look(self, text: str, diff: str) -> Look:
        why = "its authorized_keys is too large." if len(text) > MOST else ""
        if "\ufffd" in text:  # written back, it would be another file
            why = "its authorized_keys is not all UTF-8."
        found = {"sha256": hashlib.sha256(text.encode()).hexdigest()}
        return Look(found=found, diff=diff, refuse=why, next_step="change it by hand.", undo={"file": text})

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind; a new connection must still work."""
        del args, look
        why = await host.fresh_login()
        return f"a new connection does not work any more: {why}" if why else ""

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        await self._write(host, args.user, look.undo["file"] or None)


class AddKey(KeyKind):
    """Let a key log in."""

    name, summary, params = "keys.add", "Let a key log in", Adding

    def words(self, args: Any) -> str:
        """See Kind."""
        _, key, comment = parse(args.key)
        return f"let the key {comment or fingerprint(key)} in as {args.user}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        text = await self._file(host, args.user)
        kind, key, comment = parse(args.key)
        known = fingerprint(key) in {each["fingerprint"] for each in entries(text)}
        return self._look(text, "" if known else f"+ {kind} {fingerprint(key)} {comment}".rstrip())

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        text = look.undo["file"]
        await self._write(host, args.user, f"{text.rstrip()}\n{args.key}\n".lstrip())
        return ""


class RemoveKey(KeyKind):
    """Let a key in no more."""

    name, summary, params = "keys.remove", "Let a key in no more", Removing

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"let the key {args.fingerprint} in no more as {args.user}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        text = await self._file(host, args.user)
        gone = [each for each in entries(text) if each["fingerprint"] == args.fingerprint]
        return self._look(
            text, "\n".join(f"- {each['type']} {each['fingerprint']} {each['comment']}".rstrip() for each in gone)
        )

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        lines = look.undo["file"].splitlines(keepends=True)
        await self._write(host, args.user, "".join(line for line in lines if not _is(line, args.fingerprint)))
        return ""


def _is(line: str, wanted: str) -> bool:
    try:
        return fingerprint(parse(line)[1]) == wanted
    except ValueError:
        return False


KINDS = (AddKey(), RemoveKey())
