"""Accounts of the nodes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.model import Role

LOGIN = r"^[a-z_][a-z0-9_-]{0,31}$"
LOOK = r"""
line=$(getent passwd "$1" 2>/dev/null || grep "^$1:" /etc/passwd)
[ -n "$line" ] || exit 0
printf '%s\n' "$line"
id -Gn "$1"
"""
KEPT = r"""
base=$(useradd -D 2>/dev/null | sed -n 's/^HOME=//p')
home=${base:-/home}/$1
[ ! -e "$home" ] || printf '%s\n' "$home"
"""
"""The home that a new account would find there already."""
ADD = r"""
name=$1; groups=$2; shell=$3; uid=$4; home=$5; main=$6; shift 6
command -v useradd >/dev/null 2>&1 || { echo 'there is no useradd here' >&2; exit 127; }
set --
[ -z "$groups" ] || set -- "$@" -G "$groups"
[ -z "$shell" ] || set -- "$@" -s "$shell"
[ -z "$uid" ] || set -- "$@" -u "$uid"
[ -z "$home" ] || set -- "$@" -d "$home"
[ -z "$main" ] || { getent group "$main" >/dev/null 2>&1 || groupadd -g "$main" "$name" 2>/dev/null; set -- "$@" -g "$main"; }
useradd -m "$@" -- "$name"
"""
REMOVE = r"""
command -v userdel >/dev/null 2>&1 || { echo 'there is no userdel here' >&2; exit 127; }
if [ "$2" = yes ]; then userdel -r -- "$1"; else userdel -- "$1"; fi
"""
FIRST = 1000
"""Accounts below this number belong to the system."""


class Adding(Params):
    """A new account, without a password: it is entered with a key."""

    user: str = Field(pattern=LOGIN, description="Name of the account")
    groups: list[str] = Field([], max_length=20, description="Further groups, such as sudo or docker")
    shell: str = Field("/bin/bash", pattern=r"^(|/[A-Za-z0-9/._-]{1,100})$", description="Its shell")


class Removing(Params):
    """An account that goes; its home stays."""

    user: str = Field(pattern=LOGIN, description="Name of the account")


async def account(host: Host, user: str) -> dict[str, Any]:
    """An account as the node has it; empty where there is none. Raises ShellError, CommandFailedError."""
    lines = (await host.read(LOOK, user)).splitlines()
    cells = lines[0].split(":") if lines else []
    if len(cells) < 7:
        return {}
    groups = sorted(lines[1].split()) if len(lines) > 1 else []
    return {"uid": int(cells[2]), "gid": int(cells[3]), "home": cells[5], "shell": cells[6], "groups": groups}


class UserKind(Kind):
    """Base of both."""

    role = Role.admin

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind; a new connection must still work."""
        del args, look
        why = await host.fresh_login()
        return f"a new connection does not work any more: {why}" if why else ""


class AddUser(UserKind):
    """Add an account."""

    name, summary, params = "users.add", "Add an account", Adding

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"add the account {args.user}{' in ' + ', '.join(args.groups) if args.groups else ''}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        found = await account(host, args.user)
        if not found:
            groups = f" (groups {', '.join(args.groups)})" if args.groups else ""
            home = (await host.read(KEPT, args.user)).strip()
            took = f"; {home} is there already and becomes its home" if home else ""
            return Look(found={}, diff=f"+ {args.user}{groups}{took}", undo={"home": home})
        missing = [group for group in args.groups if group not in found["groups"]]
        why = f"{args.user} is there, and not in {', '.join(missing)}." if missing else ""
        return Look(found=found, refuse=why, next_step="put it into them by hand, or remove it first.")

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        await host.do(ADD, args.user, ",".join(args.groups), args.shell, "", "", "", sudo=True)
        return ""

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind; the home that was made for it goes too, one that was there before stays."""
        await host.do(REMOVE, args.user, "no" if look.undo.get("home") else "yes", sudo=True)


class RemoveUser(UserKind):
    """Remove an account."""

    name, summary, params = "users.remove", "Remove an account, its home stays", Removing

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"remove the account {args.user}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        found = await account(host, args.user)
        why = ""
        if args.user in {"root", host.node.user}:
            why = f"{args.user} is {'the administrator' if args.user == 'root' else 'who we are here'}."
        elif found and found["uid"] < FIRST:
            why = f"{args.user} belongs to the system (number {found['uid']})."
        diff = f"- {args.user} ({found['uid']}: {', '.join(found['groups'])})" if found else ""
        stays = "its password is not put back: it is entered with its key again" if found else ""
        return Look(found=found, diff=diff, refuse=why, next_step="remove it by hand.", undo={}, cannot_undo=stays)

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        await host.do(REMOVE, args.user, "no", sudo=True)
        return ""

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        was = look.found
        further = ",".join(group for group in was["groups"] if group != args.user)
        await host.do(
            ADD, args.user, further, was["shell"], str(was["uid"]), was["home"], str(was["gid"]), sudo=True
        )  # fmt: skip


KINDS = (AddUser(), RemoveUser())
