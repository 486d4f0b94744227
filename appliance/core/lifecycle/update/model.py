"""The values of the updates: what lies in the two slots, which one is on trial, what came of the last one."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class SlotState(StrEnum):
    """What the boot manager would do with a slot."""

    committed = "committed"
    """It is booted, unless another is on trial."""
    trial = "trial"
    """It is booted once, at the next start (`left` 1), or has been (`left` 0)."""
    former = "former"
    """It was committed before: there is a way back to it."""
    bad = "bad"
    """It was tried and not committed, or its contents are damaged."""
    empty = "empty"
    """Nothing that can be booted lies in it, or it is being written."""


class TrialState(StrEnum):
    """How far an update is that is not committed."""

    none = "none"
    waiting = "waiting"
    """Installed; the next start boots it."""
    running = "running"
    """Booted, and its health is looked at."""
    failed = "failed"
    """It did not pass; the machine starts the committed slot again."""


class OutcomeKind(StrEnum):
    """What became of an update, or of a way back."""

    installed = "installed"
    committed = "committed"
    rolled_back = "rolled_back"
    """Asked for by somebody."""
    fell_back = "fell_back"
    """The trial did not pass, or never got as far as the appliance."""
    refused = "refused"
    """Nothing was written."""
    failed = "failed"
    """It was begun and did not end well; what runs is untouched."""
    cut = "cut"
    """The power went, or the program was killed, while it was written."""


class Slot(msgspec.Struct, frozen=True):
    """One of the two places a system can lie in."""

    name: str
    """A or B."""
    state: SlotState
    version: str | None = None
    """None where it is not known: never written by an update, or being written."""
    size: int | None = None
    """Bytes of what was written into it, boot and root together."""
    installed: float | None = None
    """Wall clock of the update that wrote it; None where the image was flashed with it."""
    committed: float | None = None
    """Wall clock of when it was last found healthy."""
    verified: float | None = None
    """Wall clock of when its contents were last read again and compared."""
    problem: str = ""
    """Why it is bad or damaged; empty where it is not."""


class Outcome(msgspec.Struct, frozen=True):
    """What the last update, check of health or way back came to."""

    kind: OutcomeKind
    time: float
    """Wall clock."""
    former: str | None = None
    """Version that ran before."""
    version: str | None = None
    """Version it was about."""
    reason: str = ""
    next_step: str = ""

    @property
    def good(self) -> bool:
        """Whether it did what it was for."""
        return self.kind in {OutcomeKind.installed, OutcomeKind.committed, OutcomeKind.rolled_back}


class Release(msgspec.Struct, frozen=True):
    """A bundle that a source offers."""

    version: str
    arch: str
    """amd64 or arm64."""
    place: str
    """Path or URL of the .raucb."""
    size: int | None = None
    """Bytes; None where the source does not say."""
    sha256: str = ""
    """Of the bundle, from the signed list; empty where there is none (a bundle given by hand)."""
    published: float | None = None
    """Wall clock; None where the source does not say."""


class Waiting(msgspec.Struct, frozen=True):
    """Something that holds the commit of a trial."""

    service: str
    reason: str
    next_step: str = ""


class Trial(msgspec.Struct, frozen=True):
    """The update that is not committed."""

    state: TrialState = TrialState.none
    slot: str = ""
    version: str | None = None
    steady: float | None = None
    """Seconds that all has been well without a break; None where it is not running."""
    needed: float | None = None
    """Seconds that it must be."""
    left: float | None = None
    """Seconds until it is given up."""
    holds: tuple[Waiting, ...] = ()
    """What is not well."""


class UpdateStatus(msgspec.Struct, frozen=True):
    """All about updates."""

    booted: str | None = None
    """Slot this start came from: A or B; None where the machine was not started from our image."""
    committed: str | None = None
    """Slot that a start boots where none is on trial ("claimed")."""
    version: str = ""
    """Of the image that runs; of the program where it is no image."""
    arch: str = ""
    """What bundles must be made for: amd64 or arm64."""
    slots: tuple[Slot, ...] = ()
    trial: Trial = Trial()
    last: Outcome | None = None
    newest: Release | None = None
    """What the source offers; None where nothing is newer, or nobody has looked yet."""
    checked: float | None = None
    """Wall clock of the last look at the source that succeeded."""
    check_problem: str = ""
    """Why the last look failed; empty where it did not."""
    check_step: str = ""
    source: str = ""
    """Directory or URL; empty: by hand only."""
    schedule: str = ""
    next_check: float | None = None
    doing: str = ""
    """What is being done now; empty for nothing."""
    progress: float | None = None
    """0…1; None where unknown."""
    repaired: str = ""
    """What was rebuilt of the boot choice's files since the start, and from what; empty for nothing."""

    @property
    def pending(self) -> str | None:
        """Slot that the next start tries; None for none."""
        return self.trial.slot if self.trial.state is TrialState.waiting else None

    def slot(self, name: str | None) -> Slot | None:
        """The slot of that name; None where there is none."""
        return next((each for each in self.slots if each.name == name), None)

    @property
    def way_back(self) -> Slot | None:
        """The slot that `rollback` would boot; None where there is none."""
        return next((each for each in self.slots if each.state is SlotState.former and each.name != self.booted), None)


class SlotProof(msgspec.Struct, frozen=True):
    """One partition that was read again and compared with what was written into it."""

    slot: str
    """A or B."""
    part: str
    """boot or system."""
    good: bool | None
    """None where nothing is known to compare it with."""
    message: str
    size: int | None = None
    """Bytes that were read."""


class Checked(msgspec.Struct, frozen=True):
    """What a look at the source found."""

    said: str
    """In one sentence."""
    newest: Release | None = None
    """What to install; None where nothing is newer."""
    releases: tuple[Release, ...] = ()
    """All for this machine, newest first."""
