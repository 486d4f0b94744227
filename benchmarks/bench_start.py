"""Start time and idle cost, beside glances in the same run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Figure, at_most
from benchmarks.terminal import OnTerminal, appliance, new_home

GLANCES = "glances==4.5.4"
IDLE = 20.0
STARTS = 5


def run() -> list[Figure]:
    """The median of five starts, ours and the peer's alike; then twenty idle seconds each."""
    paints, ups = [], []
    for _ in range(STARTS):
        with new_home() as home, appliance(Path(home)) as started:
            paints.append(started.until(b"Overview"))
            ups.append(started.services_up())
    with new_home() as home, appliance(Path(home)) as started:
        started.until(b"Overview")
        started.services_up()
        started.drain(8)
        cpu, rss = started.idle(IDLE)
    peer_paint, peer_cpu, peer_rss = glances()
    return [
        at_most("start to first paint", statistics.median(paints), "s", 1.0, GLANCES, peer_paint),
        at_most("start to all services up", statistics.median(ups), "s", 3.0),
        at_most("idle CPU of one core, console open", cpu, "%", 3.0, GLANCES, peer_cpu),
        at_most("RSS without a model", rss, "MB", 150.0, GLANCES, peer_rss),
    ]


def glances() -> tuple[float | None, float | None, float | None]:
    """(first paint, idle CPU, RSS) of glances in an environment of its own; None where it cannot be installed."""
    with tempfile.TemporaryDirectory(prefix="glances-") as scratch:
        target = Path(scratch)
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target), GLANCES]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            return None, None, None
        program = f"import sys; sys.path.insert(0, {str(target)!r}); from glances import main; sys.argv = ['glances']; main()"
        paints = []
        for _ in range(STARTS):
            with OnTerminal([sys.executable, "-c", program], target) as peer:
                paints.append(peer.until(b"CPU"))
        paint = statistics.median(paints)
        with OnTerminal([sys.executable, "-c", program], target) as peer:
            peer.until(b"CPU")
            peer.drain(8)
            cpu, rss = peer.idle(IDLE)
    return round(paint, 3), round(cpu, 2), round(rss, 1)
