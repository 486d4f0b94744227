"""Replicas as compose projects, by Docker's plug-in or by docker-compose, whichever a node has."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.core.deploy.hands import LISTENS, PULL, QUESTION, Found, Remote, plain_lines
from appliance.core.deploy.model import Replica
from appliance.core.deploy.spec import ServiceSpec
from appliance.errors import DeployError

COMPOSE = """compose() {
    if docker compose version >/dev/null 2>&1; then docker compose "$@"
    elif command -v docker-compose >/dev/null 2>&1; then docker-compose "$@"
    else echo "neither docker compose nor docker-compose is there" >&2; return 127; fi
}
"""
GIVEN = """while IFS= read -r line; do export "$line"; done < "$port.env"
"""
"""Variables reach compose by its environment: its two generations read quotes in files differently."""
LABEL = "label=com.docker.compose.project"
UP = f"""{COMPOSE}
cd "$1" || exit 1
project=$2 port=$3
if [ -z "$(docker ps -q --filter "{LABEL}=$project")" ] && {LISTENS}; then exit 98; fi
{GIVEN}
compose -p "$project" -f compose.yaml up -d
"""
DOWN = f"""{COMPOSE}
project=$2 port=$3
if [ -d "$1" ] && cd "$1" && [ -e "$port.env" ]; then
    {GIVEN}
    compose -p "$project" -f compose.yaml down || exit 1
    rm -f "$port.env"
fi
left=$(docker ps -aq --filter "{LABEL}=$project") || exit 1
[ -z "$left" ] || docker rm -f $left
"""
STATE = f"""if [ -e "$2" ] && ! grep -qxF "REPLICA=$3" "$2"; then exit 0; fi
docker ps -a --filter "{LABEL}=$1" --format '{{{{.Names}}}}|{{{{.State}}}}|{{{{.Status}}}}'"""


class Composes:
    """Implements hands.Carrier.

    Args:
        remote: Commands on nodes.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    @staticmethod
    def project(spec: ServiceSpec, replica: Replica) -> str:
        """Of a replica; every replica is a project of its own."""
        return f"ps-{spec.name}-r{replica.revision}-{replica.port}"

    async def install(self, spec: ServiceSpec, replica: Replica, environment: str) -> None:
        """See hands.Carrier."""
        if spec.compose is None:
            raise DeployError(f"{spec.name} is no compose project.", "give [compose] in its specification.")
        home = self._remote.home(spec.name, replica.revision)
        own = {"PORT": str(replica.port), "VERSION": replica.label, "NODE": replica.node, "REPLICA": replica.replica_id}
        await self._remote.put(replica.node, home, "compose.yaml", spec.compose.file)
        await self._remote.put(replica.node, home, f"{replica.port}.env", environment + plain_lines(own))

    async def start(self, spec: ServiceSpec, replica: Replica) -> None:
        """See hands.Carrier."""
        project, home = self.project(spec, replica), self._remote.home(spec.name, replica.revision)
        await self._remote.script(replica.node, f"bringing {project} up", UP, home, project, str(replica.port), limit=PULL)

    async def stop(self, spec: ServiceSpec, replica: Replica) -> None:
        """See hands.Carrier."""
        project, home = self.project(spec, replica), self._remote.home(spec.name, replica.revision)
        await self._remote.script(replica.node, f"taking {project} down", DOWN, home, project, str(replica.port), limit=180.0)

    async def find(self, spec: ServiceSpec, replica: Replica) -> Found:
        """See hands.Carrier."""
        project = self.project(spec, replica)
        given = (project, f"{self._remote.home(spec.name, replica.revision)}/{replica.port}.env", replica.replica_id)
        told = await self._remote.script(replica.node, f"asking for {project}", STATE, *given, limit=QUESTION)
        rows = [line.split("|") for line in told.splitlines() if line.count("|") == 2]
        if not rows:
            return Found(running=False, there=False, reason=f"{project} has no container")
        down = [f"{name} is {status}" for name, state, status in rows if state.lower() != "running"]
        if down:
            return Found(running=False, there=True, reason="; ".join(down[:3]))
        ill = [f"{name}: {status}" for name, _, status in rows if "(unhealthy)" in status]
        young = any("(health: starting)" in status or "(starting)" in status for _, _, status in rows)
        checked = any("health" in status for _, _, status in rows)
        healthy = None if not checked or young else not ill
        return Found(running=True, there=True, reason="; ".join(ill[:3]), healthy=healthy)

    def by_hand(self, spec: ServiceSpec, replica: Replica) -> str:
        """See hands.Carrier."""
        return f"docker rm -f $(docker ps -aq --filter {LABEL}={self.project(spec, replica)})"

    async def clear(self, specs: Mapping[int, ServiceSpec], node: str) -> None:
        """See hands.Carrier."""
        homes = [self._remote.home(each.name, revision) for revision, each in specs.items()]
        await self._remote.script(node, "removing the versions' files", 'rm -rf -- "$@"', *homes)
