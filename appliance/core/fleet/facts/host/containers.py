"""Containers of Docker and Podman. Where no engine runs, or holds none, their commands are not even started."""

from __future__ import annotations

from typing import Any

from appliance.core.fleet.facts.fact import Fact, NotToldError, Told
from appliance.core.fleet.model import Container

MOST = 1000
FORM = "{{.Names}}\\t{{.Image}}\\t{{.State}}\\t{{.Status}}\\t{{.Ports}}"
LABELS = ("com.docker.compose.project", "com.docker.compose.service")
DOCKER = FORM + "".join(f'\\t{{{{.Label "{label}"}}}}' for label in LABELS)
PODMAN = FORM + "".join(f'\\t{{{{index .Labels "{label}"}}}}' for label in LABELS)


def parse(told: Told) -> dict[str, Any]:
    """All of both, and the version of Docker's engine."""
    rows = [line.split("\t") for line in told.lines()]
    versions = [row[1] for row in rows if row[0] == "version" and len(row) == 2 and row[1]]
    found = [_container(row) for row in rows if len(row) == 7]
    other = [row for row in rows if len(row) != 7 and row[0] not in {"version", "engine"} and not row[0].startswith("time=")]
    if other and not found:
        raise NotToldError(" ".join(other[0])[:200])
    named = {each.name: each for each in found}
    return {"docker": versions[0] if versions else None, "containers": tuple(named[name] for name in sorted(named))[:MOST]}


def _container(row: list[str]) -> Container:
    """Podman writes <no value> where a label is not there."""
    name, image, state, status, ports, project, service = ("" if field == "<no value>" else field for field in row)
    return Container(name.split(",")[0], image, state or _state(status), status, ports, project, service)


def _state(status: str) -> str:
    """Old engines tell no state: "Up 3 days", "Exited (0) 2 hours ago"."""
    return "running" if status.startswith("Up") else status.partition(" ")[0].lower()


FACT = Fact(
    "docker", parse,
    script=(
        "found=\n"
        "if [ -S /var/run/docker.sock ] && command -v docker >/dev/null; then found=1\n"
        "{ printf 'version\\t'; docker version --format '{{.Server.Version}}' || echo; "
        f"docker ps -a --format '{DOCKER}' 2>&1; }} | head -c 400000; fi\n"
        "if command -v podman >/dev/null; then\n"
        "for file in /var/lib/containers/storage/*-containers/containers.json "
        '"$HOME"/.local/share/containers/storage/*-containers/containers.json; do\n'
        '[ -r "$file" ] || continue; some=$(head -c 3 "$file"); '
        "case $some in ''|'[]'*|null*) ;; *) "
        f"podman ps -a --format '{PODMAN}' 2>&1 | head -c 400000;; esac; done; found=1; echo engine; fi\n"
        '[ -n "$found" ] || { if command -v docker >/dev/null; then echo "!its engine does not run"; '
        'else echo "!it has neither docker nor podman"; fi; }'
    ),
)  # fmt: skip
