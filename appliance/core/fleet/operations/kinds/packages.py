"""Packages of Debian and its kin: what apt would upgrade is simulated, shown, done without questions, and taken back."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import Field

from appliance.core.actions import Params
from appliance.core.fleet.operations.host import Host
from appliance.core.fleet.operations.kind import Kind, Look
from appliance.core.model import Role

REFRESH = "apt-get -q -o DPkg::Lock::Timeout=120 update"
SIMULATE = r"""
command -v apt-get >/dev/null 2>&1 || { echo 'there is no apt-get here' >&2; exit 127; }
if [ $# -gt 0 ]; then exec apt-get -q -s -o Debug::NoLocking=1 install --only-upgrade -- "$@"; fi
exec apt-get -q -s -o Debug::NoLocking=1 upgrade
"""
OFFERED = r"""
apt-cache madison -- "$@" | awk -F'|' '{gsub(/ /,"",$1); gsub(/ /,"",$2); print $1, $2}' | sort -u
for name in "$@"; do
  for file in /var/cache/apt/archives/"$name"_*.deb; do
    [ -e "$file" ] && basename "$file" | sed 's/%3a/:/g' | awk -F_ '{print $1, $2}'
  done
done
exit 0
"""
APART = r"""
inner=$1; shift
work=$(mktemp -d "${TMPDIR:-/tmp}/spark-apt.XXXXXX") || exit 73
: >"$work/out"
apart=setsid; command -v setsid >/dev/null 2>&1 || apart=
(
  trap '' HUP PIPE INT TERM
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l; export DEBIAN_FRONTEND NEEDRESTART_MODE
  exec $apart sh -c 'work=$1; inner=$2; shift 2
    sh -c "$inner" sh "$@" >"$work/out" 2>&1; echo $? >"$work/status.new"; mv "$work/status.new" "$work/status"
  ' sh "$work" "$inner" "$@"
) </dev/null >/dev/null 2>&1 &
pid=$!
echo $$ >"$work/follower"; echo $pid >"$work/pid"
at=1
while :; do
  over=no; kill -0 $pid 2>/dev/null || over=gone
  if [ -e "$work/status" ]; then over=yes; fi
  size=$(wc -c <"$work/out" 2>/dev/null || echo 0)
  if [ "$size" -ge "$at" ]; then tail -c "+$at" "$work/out" | head -c $((size - at + 1)); at=$((size + 1)); fi
  [ $over = no ] || break
  sleep 0.3
done
status=70; [ $over = gone ] || status=$(cat "$work/status")
[ $over = yes ] || echo 'apt was killed, or its folder taken away: look at dpkg --audit' >&2
rm -rf "$work"; exit "$status"
"""
"""A link that is cut must not cut dpkg: it works on its own, and what it says is followed."""
RESTED = r"""
for work in "${TMPDIR:-/tmp}"/spark-apt.*; do
  [ -d "$work" ] && [ -O "$work" ] || continue
  [ -e "$work/pid" ] || sleep 1
  pid=$(cat "$work/pid" 2>/dev/null) || pid=
  while [ ! -e "$work/status" ] && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.3; done
  follower=$(cat "$work/follower" 2>/dev/null) || follower=
  [ -n "$follower" ] && kill -0 "$follower" 2>/dev/null || rm -rf "$work"  # another operation may follow it still
done
"""
"""Until no upgrade goes on that nobody follows any more: stopped in the midst, or its link was cut."""
APT = 'apt-get -qy --no-remove -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef -o "Dpkg::Options::=--force-$conf"'
UPGRADE = f'conf=$1; shift; if [ $# -gt 0 ]; then {APT} install --only-upgrade -- "$@"; else {APT} upgrade; fi'
DOWNGRADE = rf"""
conf=$1; shift
names=$(for each in "$@"; do printf '%s\n' "${{each%%=*}}"; done)
auto=$(apt-mark showauto $names)
{APT} install --allow-downgrades -- "$@"; status=$?
[ -z "$auto" ] || apt-mark auto $auto >/dev/null
exit $status
"""
AFTER = r"""
dpkg --audit
[ ! -e /run/reboot-required ] && [ ! -e /var/run/reboot-required ] || echo 'REBOOT'
"""
LINE = re.compile(r"^Inst (\S+) (?:\[([^\]]+)\] )?\((\S+) ")
LONG = 3600.0
"""Seconds that an upgrade may take."""


class Upgrading(Params):
    """What is upgraded."""

    packages: list[str] = Field([], max_length=200, description="Only these; all that have a newer version where none is given")
    refresh: bool = Field(True, description="Fetch the lists of packages first")
    conffiles: Literal["keep", "new"] = Field("keep", description="Configuration files that were changed there: which stay")


def upgrades(text: str) -> list[list[str]]:
    """What apt would do, as [name, version of before, version of after], by name; one that is new has no version of before.

    Args:
        text: What `apt-get -s` says.
    """
    found = (LINE.match(line) for line in text.splitlines())
    return sorted([each[1], each[2] or "", each[3]] for each in found if each)


def removals(text: str) -> list[str]:
    """Packages that it would remove."""
    return sorted(line.split()[1] for line in text.splitlines() if line.startswith(("Remv ", "Purg ")))


class Upgrade(Kind):
    """Upgrade packages."""

    name, summary, params = "packages.upgrade", "Upgrade packages", Upgrading
    role, heavy, limit, settle = Role.admin, True, LONG, 20.0
    room: ClassVar[dict[str, int]] = {"/": 200 << 20, "/var": 200 << 20}

    def words(self, args: Any) -> str:
        """See Kind."""
        return f"upgrade {', '.join(args.packages[:6]) or 'all packages'}{' …' if len(args.packages) > 6 else ''}"

    async def look(self, host: Host, args: Any) -> Look:
        """See Kind."""
        if wrong := [name for name in args.packages if not re.fullmatch(r"[a-z0-9][a-z0-9+.:-]{0,100}", name)]:
            return Look(refuse=f"{wrong[0][:60]!r} is no name of a package.", next_step="write names such as libc6.")
        if args.refresh and host.planning:  # while it is carried out, the lists of the plan hold
            said = await host.sh(f"command -v apt-get >/dev/null 2>&1 || exit 0; {REFRESH}", sudo=True, limit=600.0)
            if said.exit_status:
                return Look(
                    refuse=f"the lists of packages cannot be fetched: {said.complaint}.", next_step="or with refresh=false."
                )
        text = await host.read(SIMULATE, *args.packages, limit=max(host.limit, 120.0))
        todo, gone = upgrades(text), removals(text)
        if gone:
            return Look(refuse=f"it would remove {', '.join(gone[:5])}.", next_step="do that by hand.")
        diff = "\n".join(f"- {name} {old}\n+ {name} {new}" for name, old, new in todo)
        if not todo:
            return Look(found={"upgrades": todo}, undo={})
        return await self._back(host, todo, diff)

    async def _back(self, host: Host, todo: list[list[str]], diff: str) -> Look:
        told = await host.read(OFFERED, *(name for name, _, _ in todo), limit=max(host.limit, 120.0))
        offered = {tuple(line.split(" ", 1)) for line in told.splitlines()}
        lost = [f"{name} {old or '(it was not there)'}" for name, old, _ in todo if not old or (name, old) not in offered]
        why = f"the archive has no more: {', '.join(lost[:8])}{' …' if len(lost) > 8 else ''}" if lost else ""
        return Look(found={"upgrades": todo}, diff=diff, undo=None if lost else {}, cannot_undo=why)

    async def apply(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        named = [f"{name}={new}" for name, _, new in look.found["upgrades"]] if args.packages else []
        await host.do(APART, UPGRADE, _conf(args), *named, sudo=True, limit=max(host.limit, LONG))
        said = await host.sh(AFTER, limit=max(host.limit, 120.0))
        done = f"{len(look.found['upgrades'])} upgraded"
        return f"{done}; a reboot is required" if "REBOOT" in said.out.split() else done

    async def check(self, host: Host, args: Any, look: Look) -> str:
        """See Kind."""
        said = await host.sh(AFTER, limit=max(host.limit, 120.0))
        broken = " ".join(said.out.replace("REBOOT\n", "").split())
        return f"dpkg is not content: {broken[:300]}" if broken else ""

    async def rested(self, host: Host) -> None:
        """See Kind."""
        await host.do(RESTED, sudo=True, limit=max(host.limit, LONG))

    async def undo(self, host: Host, args: Any, look: Look) -> None:
        """See Kind."""
        named = [f"{name}={old}" for name, old, _ in look.found["upgrades"]]
        await host.do(APART, DOWNGRADE, _conf(args), *named, sudo=True, limit=max(host.limit, LONG))


def _conf(args: Any) -> str:
    return "confold" if args.conffiles == "keep" else "confnew"


KINDS = (Upgrade(),)
