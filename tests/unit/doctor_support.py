"""A machine made of files, for the doctor to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.core.doctor.model import DoctorContext, PortUse
from appliance.core.model import Device
from appliance.hw.ups import found


class Machine:
    """A directory that plays the root of a file system.

    Args:
        root: An empty directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()

    def file(self, path: str, text: str = "") -> Path:
        """Write a file and its directories."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def program(self, name: str, script: str) -> Path:
        """An executable shell script on the machine's PATH."""
        target = self.bin / name
        target.write_text(f"#!/bin/sh\n{script}\n")
        target.chmod(0o755)
        return target

    def context(self, **changes: object) -> DoctorContext:
        """The machine as the doctor is given it; its PATH has its own programs and the shell's."""
        given: dict[str, object] = {
            "environ": {
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "HOME": str(self.root),
                "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
            },
            "home": self.root / "home",
            "lock": self.root / "home/run/appliance.lock",
            "ports": (PortUse("127.0.0.1", 8022, "ssh.port"),),
            "nas_path": self.root / "nas",
            "model_dirs": (self.root / "models",),
            "root": self.root,
            "upses": self.upses(),
        }
        return DoctorContext(**(given | changes))  # type: ignore[arg-type]

    def upses(self, **wanted: Any) -> tuple[Callable[[], Device], ...]:
        """What looks for UPSes on it; for PiSugar and NUT only where they are named, for this machine may have them."""
        return found.detectors(found.Wanted(**({"nut": (), "pisugar": None} | wanted)), self.root)

    def bare(self) -> dict[str, str]:
        """An environment whose PATH has this machine's own programs alone."""
        return {"PATH": str(self.bin), "HOME": str(self.root)}
