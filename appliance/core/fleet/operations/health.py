"""Expected services of a node: which of them run. A change is well where those that ran before run after it."""

from __future__ import annotations

import re

from appliance.core.fleet.operations.host import Host

SCRIPT = r"""
for want in "$@"; do
  up=no
  case $want in
    tcp:*) port=$(printf '%04X' "${want#tcp:}")
      cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v p="$port" '$4=="0A"{n=split($2,a,":"); if (a[n]==p) f=1} END{exit !f}' && up=yes ;;
    compose:*) name=${want#compose:}
      for tool in docker podman; do
        command -v $tool >/dev/null 2>&1 || continue
        states=$($tool ps -a --filter "label=com.docker.compose.project=$name" --format '{{.State}}' 2>/dev/null)
        [ -n "$states" ] && ! printf '%s\n' "$states" | grep -qv '^running' && up=yes
        break
      done ;;
    *) if command -v systemctl >/dev/null 2>&1; then
        systemctl is-active --quiet -- "$want" && up=yes
      elif [ -x "/etc/init.d/${want%.service}" ]; then
        "/etc/init.d/${want%.service}" status >/dev/null 2>&1 && up=yes
      fi ;;
  esac
  printf '%s %s\n' "$up" "$want"
done
"""


async def running(host: Host) -> tuple[str, ...]:
    """Which of its expected services run now. Raises ShellError, CommandFailedError."""
    wanted = [name for name in host.node.services if not name.startswith("tcp:") or re.fullmatch(r"tcp:[0-9]{1,5}", name)]
    if not wanted:
        return ()
    told = (line.split(" ", 1) for line in (await host.read(SCRIPT, *wanted)).splitlines() if " " in line)
    return tuple(name for up, name in told if up == "yes")


async def fallen(host: Host, baseline: tuple[str, ...]) -> str:
    """What ran before and does not now, in words; empty where all is well. Raises ShellError, CommandFailedError."""
    if not baseline:
        await host.read("true")
        return ""
    up = await running(host)
    down = [name for name in baseline if name not in up]
    return f"{', '.join(down)} ran before and {'does' if len(down) == 1 else 'do'} not now" if down else ""
