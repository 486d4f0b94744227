"""What of all libraries an agent needs: the worker and the command line, without screens, models and stores."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from appliance.core.agents.target import Target
from appliance.errors import AbsentError

NEEDED = (
    "aiokafka", "click", "cramjam", "httpx", "msgspec", "pydantic", "python-json-logger", "rich",
    "uuid_utils", "zstandard",
)  # fmt: skip
"""Libraries that `prime-spark agent --role worker` and `--version` load; what these need comes with them."""
OWN = "prime-spark"


def closure(target: Target, names: tuple[str, ...] = NEEDED) -> dict[str, str]:
    """Those libraries with all that they need on a machine, pinned to the versions that this appliance runs with.

    Args:
        target: The machine.
        names: Libraries.

    Returns:
        Name as in wheels' file names → version, by name. Reads the metadata of this environment: for a thread.

    Raises:
        AbsentError: One is not installed here.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    pending = list(names)
    while pending:
        name = canonicalize_name(pending.pop())
        if name in found:
            continue
        try:
            each = distribution(name)
        except PackageNotFoundError:
            step = "install the appliance again with all that it needs."
            raise AbsentError(f"The library {name} is not installed here, and agents need it.", step) from None
        found[name] = each.version
        wanted = (Requirement(text) for text in each.requires or ())
        pending += [need.name for need in wanted if need.marker is None or need.marker.evaluate(target.markers())]
    return dict(sorted(found.items()))
