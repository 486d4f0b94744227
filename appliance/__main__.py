"""The console script: starts the appliance by the shortest way, or hands over to the command line.

The first paint has a budget of one second, of which the command line's library would take a part.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys

STARTS: dict[tuple[str, ...], str] = {(): "console", ("run",): "console", ("headless",): "headless", ("attach",): "attach"}
"""Command lines that need no parser."""
M_ARENA_MAX = -8
"""Of mallopt, from malloc.h."""


def main() -> None:
    """Run the command line of this process."""
    mode = STARTS.get(tuple(sys.argv[1:]))
    if mode is None or "_PRIME_SPARK_COMPLETE" in os.environ:
        from appliance import cli

        cli.main()
        return
    if mode == "attach":
        from appliance import attaching

        raise SystemExit(attaching.attach_only(os.environ))
    share_arena()
    gc.disable()  # until the first paint: modules that load are no garbage
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # none is wanted, and looking for them reads every package
    from appliance import launch

    raise SystemExit(launch.console(os.environ) if mode == "console" else launch.headless(os.environ))


def share_arena() -> None:
    """Let all threads allocate from one arena: saves some MB that each would keep for itself (mallopt(3), glibc)."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


if __name__ == "__main__":
    main()
