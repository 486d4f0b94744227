"""A terminal for the appliance that runs: attached at once, or as soon as it takes one. Loads no service and no page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from appliance import paths
from appliance.away import next_step
from appliance.errors import NotRunningError
from appliance.lock import Lock
from appliance.paths import Paths, socket_address

LISTENING = 0.5
"""Seconds between two looks whether an appliance that starts takes terminals already."""


def say(text: str) -> None:
    """Tell whoever started this."""
    print(text, file=sys.stderr)  # noqa: T201


def attach_only(environ: Mapping[str, str]) -> int:
    """Hand this terminal to the appliance that runs, and never start one; returns the exit code."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        say("error: the console needs a terminal.\nnext: use `prime-spark status`, or run it in a terminal.")
        return 2
    where = paths.find(environ)
    return hand_over(where, Lock(where.lock), environ)


def hand_over(where: Paths, lock: Lock, environ: Mapping[str, str]) -> int:
    """Attach, as soon as the appliance that runs takes terminals; one that starts on a slow machine does not yet."""
    from appliance.session.handover import attach

    told = False
    try:
        while True:
            try:
                return attach(socket_address(where.console_socket), environ)
            except (FileNotFoundError, ConnectionRefusedError):
                if not lock.held():
                    break
            if not told:
                say(f"The appliance (process {lock.holder() or 'unknown'}) takes no terminal yet. Waiting; Ctrl-C ends that.")
            told = True
            time.sleep(LISTENING)
    except KeyboardInterrupt:
        say("error: it took no terminal.\nnext: see `prime-spark status`, or stop it: prime-spark appliance stop")
        return 130
    except OSError as error:
        say(f"error: this terminal cannot be handed over: {error.strerror}.\nnext: be the user that the appliance runs as.")
        return 1
    say(f"error: no appliance runs here.\nnext: {next_step(where.run)}")
    return NotRunningError.exit_code
