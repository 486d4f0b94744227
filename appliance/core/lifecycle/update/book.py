"""What is remembered of updates from one start to the next, in whichever slot; a small file on the data partition.

Both slots read it, and the older one may be the older program: fields are only added, each with a default.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from appliance.core.lifecycle.update.model import Outcome, Release
from appliance.core.secrets import write_private
from appliance.errors import StoreError

log = logging.getLogger(__name__)


class Pending(msgspec.Struct, frozen=True):
    """An update, or a way back, that is not over."""

    slot: str
    version: str = ""
    former: str = ""
    begun: float = 0.0
    """Wall clock."""
    phase: Literal["writing", "written"] = "writing"
    kind: Literal["update", "rollback"] = "update"
    before: dict[str, str] = {}
    """Health of each service before it."""
    by: str = ""
    """Who asked for it; "schedule" for nobody."""
    reason: str = ""
    """Why its trial was given up; empty where it was not."""


class SlotNote(msgspec.Struct, frozen=True):
    """What is known of a slot's contents."""

    version: str = ""
    committed: float | None = None
    verified: float | None = None
    problem: str = ""


class Notes(msgspec.Struct, frozen=True):
    """All of it."""

    pending: Pending | None = None
    last: Outcome | None = None
    told: bool = True
    """False while `last` was not yet told as an event."""
    stood_in: str = ""
    """Slot that did not start although it is committed; told once, until it does."""
    left: str = ""
    """Version that somebody went back from last."""
    slots: dict[str, SlotNote] = {}
    source: str = ""
    """Where the following was found."""
    newest: Release | None = None
    checked: float | None = None
    tried: float | None = None
    """Wall clock of the last look at the source, well or not."""
    check_problem: str = ""
    check_step: str = ""


class Book:
    """The notes. Methods block for a moment.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes = Notes()

    def load(self) -> None:
        """Read what is there; a file that cannot be read is told in the log, and begun anew."""
        try:
            self.notes = msgspec.json.decode(self._path.read_bytes(), type=Notes)
        except FileNotFoundError:
            self.notes = Notes()
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("%s cannot be read, so what is known of earlier updates is lost: %s", self._path, error)
            self.notes = Notes()

    def mind(self, source: str) -> None:
        """Forget what another source had; nothing is written."""
        if self.notes.source != source:
            self.notes = replace(
                self.notes, source=source, newest=None, checked=None, tried=None, check_problem="", check_step=""
            )

    def change(self, **changes: Any) -> None:
        """Change some and keep them, durably. Raises StoreError; then nothing was changed."""
        changed = replace(self.notes, **changes)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._path, msgspec.json.encode(changed))
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written: {error.strerror}.", "free space there.") from error
        self.notes = changed

    def slot(self, name: str) -> SlotNote:
        """What is known of one."""
        return self.notes.slots.get(name, SlotNote())

    def change_slot(self, name: str, **changes: Any) -> None:
        """Change what is known of a slot. Raises StoreError."""
        self.change(slots={**self.notes.slots, name: replace(self.slot(name), **changes)})
