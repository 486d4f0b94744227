"""Where a sound server is, by looking only: one rule for the doctor, the list of devices and the voice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def sound_server(environ: Mapping[str, str], root: Path) -> tuple[str, str]:
    """Look for the sockets of PulseAudio and PipeWire.

    Args:
        environ: Environment variables: PULSE_SERVER and XDG_RUNTIME_DIR count.
        root: Where /run is.

    Returns:
        (where a sound server is, or why the one that is named is not there); both empty where none is spoken of.
    """
    named = environ.get("PULSE_SERVER", "")
    if named.startswith(("unix:", "/")):
        path = Path(named.removeprefix("unix:"))
        return (named, "") if os.access(path, os.F_OK) else ("", f"PULSE_SERVER names {path}, and nothing is there")
    if named:
        return named, ""
    running = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    for name in ("pulse/native", "pipewire-0"):
        path = root / running.lstrip("/") / name
        if os.access(path, os.F_OK):  # exists() fails where a directory may not be entered, as in a service without homes
            return str(path), ""
    return "", ""
