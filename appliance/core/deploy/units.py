"""Replicas as systemd units: one template unit for each version, one instance for each port."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.core.deploy.hands import LISTENS, PREPARE, QUESTION, Found, Remote, filled, unit_words
from appliance.core.deploy.model import Replica
from appliance.core.deploy.spec import ServiceSpec
from appliance.errors import DeployError

PORT_MARK = "prime-spark-port-mark"
"""Stands for the port while a command is quoted; the unit has its instance name there."""
INSTALL = """umask 077
put() { cat > "$1.$$" && chmod "$2" "$1.$$" && mv -f "$1.$$" "$1"; }
mkdir -p "$1" && put "$1/env" 600 || exit 1
[ -n "$2" ] || exit 0
printf '%s' "$3" | put "$2" 644 || exit 1
systemctl daemon-reload
"""
"""The environment comes by standard input; the unit has no secret in it."""
START = f"""unit=$1 port=$2 mark=$3/$2.replica
case $(systemctl is-active "$unit") in
active) [ "$(cat "$mark" 2>/dev/null)" = "$4" ] && exit 0; systemctl disable --now --quiet "$unit" || exit 1 ;;
activating|reloading|deactivating)
    [ "$(cat "$mark" 2>/dev/null)" = "$4" ] || systemctl disable --now --quiet "$unit" || exit 1 ;;
failed) systemctl reset-failed "$unit" ;;
esac
if {LISTENS}; then exit 98; fi
printf '%s' "$4" > "$mark" || exit 1
systemctl enable --now --quiet "$unit" || {{ systemctl status --no-pager --lines 5 "$unit" >&2; exit 1; }}
"""
"""What runs under the name but was started for another replica is left over from a service that was removed: it goes first."""
FIND = """if [ -e "$2" ] && [ "$(cat "$2")" != "$3" ]; then echo Other=yes; fi
systemctl show --property=ActiveState,SubState,Result,ExecMainStatus,NRestarts "$1"
"""
STOP = """unit=$1
systemctl disable --now --quiet "$unit"
status=$?
case $(systemctl is-active "$unit") in
active|activating|deactivating|reloading) exit $((status == 0 ? 1 : status)) ;;
failed) systemctl reset-failed "$unit" ;;
esac
exit 0
"""
PREPARED = """cd "$1" || exit 1
[ -e prepared ] && { [ -z "$3" ] || [ "$(cat prepared)" = "$3" ]; } && exit 0
sh -c "$2" && printf '%s' "$3" > prepared
"""
CLEAR = """rm -rf -- "$@" || exit 1
systemctl daemon-reload
"""


class Units:
    """Implements hands.Carrier.

    Args:
        remote: Commands on nodes.
        folder: Where units lie there.
    """

    def __init__(self, remote: Remote, folder: str) -> None:
        self._remote = remote
        self._folder = folder

    def name(self, spec: ServiceSpec, replica: Replica) -> str:
        """Of a replica's unit."""
        if spec.unit is not None and spec.unit.template:
            return f"{filled(spec.unit.template, replica)}{replica.port}.service"
        return f"{self._stem(spec.name, replica.revision)}{replica.port}.service"

    @staticmethod
    def _stem(service: str, revision: int) -> str:
        return f"ps-{service}-r{revision}@"

    async def install(self, spec: ServiceSpec, replica: Replica, environment: str) -> None:
        """See hands.Carrier."""
        unit, node, home = spec.unit, replica.node, self._remote.home(spec.name, replica.revision)
        if unit is None:
            raise DeployError(f"{spec.name} is no unit.", "give [unit] in its specification.")
        path = f"{self._folder}/{self._stem(spec.name, replica.revision)}.service" if unit.command else ""
        text = unit_file(spec, replica, home) if unit.command else ""
        await self._remote.script(node, "writing the version's files", INSTALL, home, path, text, stdin=environment.encode())
        if unit.prepare:
            text = filled(unit.prepare, replica)
            await self._remote.script(node, "preparing the version", PREPARED, home, text, replica.mark, limit=PREPARE)

    async def start(self, spec: ServiceSpec, replica: Replica) -> None:
        """See hands.Carrier."""
        unit = self.name(spec, replica)
        home = self._remote.home(spec.name, replica.revision)
        given = (unit, str(replica.port), home, replica.replica_id)
        await self._remote.script(replica.node, f"starting {unit}", START, *given, limit=120.0)

    async def stop(self, spec: ServiceSpec, replica: Replica) -> None:
        """See hands.Carrier."""
        unit = self.name(spec, replica)
        await self._remote.script(replica.node, f"stopping {unit}", STOP, unit, limit=120.0)

    async def find(self, spec: ServiceSpec, replica: Replica) -> Found:
        """See hands.Carrier."""
        unit = self.name(spec, replica)
        mark = f"{self._remote.home(spec.name, replica.revision)}/{replica.port}.replica"
        given = (unit, mark, replica.replica_id)
        told = await self._remote.script(replica.node, f"asking for {unit}", FIND, *given, limit=QUESTION)
        facts = dict(line.partition("=")[::2] for line in told.splitlines() if "=" in line)
        if "Other" in facts:
            return Found(running=False, there=False, reason=f"{unit} there is left over from a service that was removed")
        active = facts.get("ActiveState", "")
        ended = f"{unit} is {active or 'not known'} ({facts.get('SubState', '')}, {facts.get('Result', '')}, "
        reason = f"{ended}status {facts.get('ExecMainStatus', '?')})"
        if active in {"active", "reloading"}:
            return Found(running=True, there=True)
        if active == "activating":  # also between two restarts of a program that ends at once
            return Found(running=True, there=True, reason=reason)
        return Found(running=False, there=active == "failed", reason=reason)

    def by_hand(self, spec: ServiceSpec, replica: Replica) -> str:
        """See hands.Carrier."""
        return f"systemctl disable --now {self.name(spec, replica)}"

    async def clear(self, specs: Mapping[int, ServiceSpec], node: str) -> None:
        """See hands.Carrier."""
        made = [(each.name, revision) for revision, each in specs.items() if each.unit is not None and each.unit.command]
        paths = [self._remote.home(each.name, revision) for revision, each in specs.items()]
        paths += [f"{self._folder}/{self._stem(*each)}.service" for each in made]
        await self._remote.script(node, "removing the versions' files", CLEAR, *paths)


def unit_file(spec: ServiceSpec, replica: Replica, home: str) -> str:
    """The template unit of a version; the instance is the port."""
    unit = spec.unit
    if unit is None:
        raise DeployError(f"{spec.name} is no unit.", "give [unit] in its specification.")
    given = filled(unit.command.replace("{port}", PORT_MARK).replace("{replica}", f"{spec.name}-{PORT_MARK}"), replica)
    command = unit_words(given).replace(PORT_MARK, "%i")
    who = f"User={unit.user}" if unit.user else "DynamicUser=yes"
    folder = f"WorkingDirectory={filled(unit.folder, replica)}\n" if unit.folder else ""
    return f"""# Written by prime-spark; the next deployment overwrites it.
[Unit]
Description={spec.name} {replica.label} at port %i
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=4

[Service]
ExecStart={command}
Environment=PORT=%i VERSION={replica.label} NODE={replica.node}
EnvironmentFile={home}/env
{folder}{who}
Restart=on-failure
RestartSec=2
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""
