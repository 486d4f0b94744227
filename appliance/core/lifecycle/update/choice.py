"""Which slot is booted next: the rules, free of files. Root's small programs import this: nothing heavy here.

One slot is `committed`. The other may be on `trial`: while `left` is 1 the boot manager tries it once, having written 0 first.
A trial that is found healthy becomes the committed one; one that is not is never booted again by itself.
"""

from __future__ import annotations

from typing import NamedTuple

SLOTS = ("A", "B")


class ChoiceError(Exception):
    """The boot choice cannot be read, or must not be changed like that."""


class Choice(NamedTuple):
    """What the boot manager reads at a start."""

    committed: str
    """A or B."""
    trial: str = ""
    """The slot on trial; empty for none."""
    left: int = 0
    """1: it was not tried yet."""
    seen: int = 0
    """1: it was started and got as far as its first programs."""
    boots: int = 0
    """Starts of the committed slot since one was healthy, as GRUB counts them."""
    good: str = ""
    """Slots whose present contents ran healthily once: "", "A", "B" or "AB". In a new image both hold the same, and are."""
    armed: int = 0
    """1: the Pi's firmware is told to boot the trial as if it were committed; the trial's first act is to take that back."""


def other(slot: str) -> str:
    """The slot beside it."""
    return "B" if slot == "A" else "A"


def primary(now: Choice) -> str:
    """The slot that the next start boots."""
    return now.trial if now.trial and now.left else now.committed


def bootable(now: Choice, slot: str) -> bool:
    """Whether a start may boot it by itself (RAUC's "good")."""
    return slot in {now.committed, primary(now)}


def cleared(now: Choice) -> Choice:
    """Without a trial."""
    return now._replace(trial="", left=0, seen=0, armed=0)


def set_primary(now: Choice, slot: str) -> Choice:
    """Have the next start try a slot; the committed one needs no trial."""
    return cleared(now) if slot == now.committed else now._replace(trial=slot, left=1, seen=0, armed=0)


def set_good(now: Choice, slot: str, booted: str) -> Choice:
    """Commit the slot that runs. A trial of the other one that waits for its start keeps waiting.

    Raises:
        ChoiceError: It is not the one that runs.
    """
    if slot != booted:
        raise ChoiceError(f"slot {slot} does not run (slot {booted or '?'} does): only what runs can be found healthy")
    kept = now if now.left and now.trial != slot else cleared(now)
    return kept._replace(committed=slot, boots=0, good=_with(now.good, slot))


def set_bad(now: Choice, slot: str, booted: str) -> Choice:
    """Have a slot booted no more, because it failed or is about to be written.

    Raises:
        ChoiceError: It is the only one that is known to start.
    """
    found = now._replace(good=now.good.replace(slot, ""))
    if slot == now.trial:
        found = cleared(found)
    if slot != now.committed:
        return found
    if booted not in SLOTS or booted in {slot, now.trial}:
        raise ChoiceError(f"slot {slot} is the committed one and no other is known to start: end the trial first, either way")
    return found._replace(committed=booted)  # it runs although the committed one was to: that one does not start


def started(now: Choice, booted: str) -> Choice:
    """Note what this start booted; whatever it was, only the committed slot is booted without being asked for from here on."""
    return now._replace(left=0, seen=1, armed=0) if booted == now.trial else now._replace(armed=0)


def stopping(now: Choice, *, arm: bool) -> Choice:
    """Before a restart into a trial that waits: from here on it counts as tried, as where GRUB writes `left` itself.

    Args:
        now: As it is.
        arm: The firmware cannot be asked for one start of it: it is told to boot the trial, which takes that back itself.
    """
    return now._replace(left=0, armed=int(arm)) if now.trial and now.left else now


def uncommitted(now: Choice, booted: str) -> bool:
    """Whether what runs is a trial that nobody has found healthy yet."""
    return bool(now.trial) and booted == now.trial


def fell_back(now: Choice, booted: str) -> bool:
    """Whether a trial was begun, and something else runs."""
    return bool(now.trial) and not now.left and booted != now.trial


def _with(good: str, slot: str) -> str:
    return "".join(each for each in SLOTS if each == slot or each in good)
