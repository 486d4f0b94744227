"""What this machine was started from, as anybody may read it: the image's name, the slot, the boot choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.core.lifecycle.update.bootslots import NOTE, Boot, Places
from appliance.core.lifecycle.update.choice import Choice, ChoiceError
from appliance.core.lifecycle.update.choicefiles import pairs
from appliance.errors import AbsentError, UpdateError

OURS = "prime-spark"
"""IMAGE_ID of our images (os-release(5))."""
STEP = "flash our image (docs/install.md), or renew the package: sudo apt install ./prime-spark_VERSION_ARCH.deb"


@dataclass(frozen=True)
class Facts:
    """The image that runs."""

    version: str
    arch: str
    """amd64 or arm64."""
    booted: str
    """A or B."""


class Image:
    """Reads; never writes, and needs no rights.

    Args:
        places: Where root's program keeps the boot choice.
        release: os-release(5).
    """

    def __init__(self, places: Places | None = None, release: Path = Path("/etc/os-release")) -> None:
        self._boot = Boot(places or Places(), _nothing)
        self._release = release

    def facts(self) -> Facts:
        """What runs. Raises AbsentError where it is not our image."""
        try:
            told = {key: value.strip("\"'") for key, value in pairs(self._release.read_text(errors="replace")).items()}
            booted = self._boot.booted()
        except OSError:
            told, booted = {}, ""
        if told.get("IMAGE_ID") != OURS or not booted:
            raise AbsentError("this machine was not started from our image", STEP)
        return Facts(told.get("IMAGE_VERSION", ""), told.get("VARIANT_ID", ""), booted)

    def choice(self) -> tuple[Choice, str]:
        """(the boot choice, what of it cannot be read and is rebuilt by the next change). Raises UpdateError."""
        try:
            return self._boot.look()
        except (ChoiceError, OSError) as error:
            step = "look at the boot partition: mount | grep /boot/firmware; then: sudo /usr/lib/prime-spark/bootslots show"
            raise UpdateError(f"The boot choice cannot be read: {error}.", step) from error

    def repaired(self) -> str:
        """What was rebuilt of the boot choice since the start; empty for nothing."""
        try:
            lines = (self._boot.places.run / NOTE).read_text(errors="replace").splitlines()
        except OSError:  # nothing was
            return ""
        return "; ".join(line.partition(" ")[2] for line in lines[-3:])


def _nothing(command: Sequence[str]) -> str:
    raise OSError(f"{command[0]} is root's to run")
