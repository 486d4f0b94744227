"""What compose projects and containers have in common: the tool, and being let at it."""

from __future__ import annotations

from appliance.core.fleet.operations.host import Host, Said

TOOLS = r"""
if command -v docker >/dev/null 2>&1; then engine() { docker "$@"; }
elif command -v podman >/dev/null 2>&1; then engine() { podman "$@"; }
else echo 'there is neither docker nor podman here' >&2; exit 127; fi
compose() {
  if docker compose version >/dev/null 2>&1; then docker compose "$@"
  elif command -v docker-compose >/dev/null 2>&1; then docker-compose "$@"
  elif command -v podman-compose >/dev/null 2>&1; then podman-compose "$@"
  else echo 'there is neither docker compose nor docker-compose here' >&2; return 127; fi
}
"""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
DENIED = ("permission denied", "connect: permission", "must be root", "got permission")


async def ask(host: Host, script: str, *arguments: str) -> tuple[Said, bool]:
    """Read something, without root where that is enough.

    Returns:
        What it said, and whether root was needed.

    Raises:
        ShellError: As FleetShell.run.
    """
    said = await host.sh(TOOLS + script, *arguments)
    text = f"{said.err} {said.out}".lower()
    if said.exit_status and any(mark in text for mark in DENIED) and host.node.user != "root":
        return await host.sh(TOOLS + script, *arguments, sudo=True), True
    return said, False


async def act(host: Host, script: str, *arguments: str, root: bool) -> None:
    """Change something. Raises ShellError, CommandFailedError."""
    await host.do(TOOLS + script, *arguments, sudo=root, limit=max(host.limit, 600.0))
