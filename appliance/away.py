"""What to do where no appliance runs."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import NotRunningError

OF_SERVICE = Path("/run/prime-spark")
"""Where the appliance of the package's service has its sockets."""


def next_step(run: Path) -> str:
    """How the one whose sockets would lie there is started."""
    if run == OF_SERVICE:
        return "start it: sudo systemctl start prime-spark (and see: journalctl -u prime-spark)."
    return "start it with `prime-spark` or `prime-spark headless`."


def none_runs(run: Path, message: str = "No appliance runs here.") -> NotRunningError:
    """The error that says so."""
    return NotRunningError(message, next_step(run))
