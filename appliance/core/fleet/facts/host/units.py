"""Services of systemd, or of OpenWRT's and Alpine's own managers."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told
from appliance.core.fleet.model import Unit

KINDS = (".service", ".socket", ".timer", ".path", ".mount", ".target")
MOST = 2000
"""Units that are kept."""


def parse(told: Told) -> dict[str, Any]:
    """Each service with its state, and whether it is started at a boot; of other units only whether they are active."""
    shown, _, files = ("\n" + "\n".join(told.lines()) + "\n").partition("\n--\n")
    enabled = {parts[0]: parts[1] for line in files.split("\n") if len(parts := line.split()) >= 2}
    found = [unit for line in shown.split("\n") if (unit := _unit(line, enabled)) is not None]
    units = [unit for unit in found if unit.name.endswith(".service")]
    if not units:
        raise NotToldError(f"systemctl said {shown.strip()[:80]!r}")
    others = {unit.name: unit.active for unit in found if not unit.name.endswith(".service")}
    return {"units": tuple(sorted(units, key=lambda unit: unit.name)[:MOST]), "other_units": others}


def _unit(line: str, enabled: dict[str, str]) -> Unit | None:
    parts = line.strip().lstrip("*● ").split(None, 4)
    if len(parts) < 4 or not parts[0].endswith(KINDS):
        return None
    name, load, active, sub = parts[:4]
    template = name.partition("@")[0] + "@.service" if "@" in name else name
    return Unit(name, load, active, sub, parts[4] if len(parts) > 4 else "", enabled.get(name, enabled.get(template, "")))


FACT = Fact(
    "units", parse,
    script=(
        "if command -v systemctl >/dev/null; then\n"
        "{ systemctl list-units --type=service,socket,timer,path,mount,target --all --plain --no-legend --no-pager 2>&1 "
        "&& echo -- && "
        "systemctl list-unit-files --type=service --no-legend --no-pager 2>&1; } | head -c 400000\n"
        "elif command -v rc-status >/dev/null; then\n"
        "rc-status -af ini | while IFS=' =' read -r name state; do case $state in started) "
        'echo "$name.service loaded active running";; stopped) echo "$name.service loaded inactive dead";; '
        'crashed) echo "$name.service loaded failed failed";; esac; done\n'
        "elif [ -x /sbin/procd ]; then\n"
        "for file in /etc/init.d/*; do name=${file##*/}; set -- /etc/rc.d/S*$name; on=disabled; [ -e \"$1\" ] && on=enabled\n"
        'if grep -q "USE_PROCD=1" "$file" && "$file" running; then echo "$name.service loaded active running"; '
        'else echo "$name.service loaded inactive dead"; fi; said="$said$name.service $on\\n"; done; echo --\n'
        'printf "%b" "$said"\n'
        'else echo "!it has no service manager that is known"; fi'
    ),
)  # fmt: skip
