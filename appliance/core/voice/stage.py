"""What the voice does now, and who is told when that changes."""

from __future__ import annotations

from collections.abc import Callable

from appliance.core.ports import Clock
from appliance.core.voice.model import Stage

LIGHTS = {
    Stage.absent: "off", Stage.muted: "muted", Stage.idle: "off", Stage.listening: "listening", Stage.thinking: "thinking",
    Stage.acting: "thinking", Stage.speaking: "speaking", Stage.following: "listening", Stage.confirming: "listening",
}  # fmt: skip
"""What a microphone array shows at each stage."""
RESTING = frozenset({Stage.absent, Stage.muted, Stage.idle})
"""Nobody is being served."""


class Stages:
    """The stage, and since when.

    Args:
        clock: For times.
        changed: Called after every change.
    """

    def __init__(self, clock: Clock, changed: Callable[[Stage], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._rest = self.now = Stage.absent
        self.since = clock.wall()

    def rest(self, stage: Stage | None = None) -> None:
        """Go where nothing is under way; `stage` is what that is from now on (absent, muted or idle)."""
        if stage is not None:
            self._rest = stage
            if self.now not in RESTING:  # whoever is being served is served to the end
                return
        self.go(self._rest)

    def go(self, stage: Stage) -> None:
        """Be at that stage."""
        if stage is self.now:
            return
        self.now, self.since = stage, self._clock.wall()
        self._changed(stage)
