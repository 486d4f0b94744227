"""What goes wrong with an update, told so that somebody can do something about it."""

from __future__ import annotations

from appliance.core.printable import printable
from appliance.errors import ApplianceError, UpdateError


class RefusedError(UpdateError):
    """The bundle is not installed: nothing was written."""

    code = "update_refused"


class ServiceAwayError(UpdateError):
    """RAUC's service does not answer."""

    code = "rauc_away"


class ForbiddenError(UpdateError):
    """This user may not ask RAUC."""

    code = "rauc_forbidden"


class BusyError(UpdateError):
    """RAUC is at work already."""

    code = "update_busy"


RETRY = "fetch or copy the bundle again and compare its SHA-256 with the list of the release, then try again."
AWAY = "look at it: systemctl status rauc; journalctl -u rauc. Starting the machine again starts it too."
KEY = "take a bundle of the releases that this image was made for, or build one with the key of its keyring."
Row = tuple[tuple[str, ...], type[UpdateError], str, str]

RULES: tuple[Row, ...] = (
    (("already processing",), BusyError, "Another update is being installed.", "wait for it: prime-spark update status"),
    (
        ("was not provided by any", "could not connect", "error creating proxy", "noreply", "message bus without replying",
         "did not receive a reply", "activation via systemd failed", "startserviceby", "unit rauc.service", "timed out",
         "timeout was reached", "service disappeared"),
        ServiceAwayError, "RAUC's service, which installs updates, does not answer.", AWAY,
    ),
    (
        ("accessdenied", "access denied", "rejected send message", "not authorized"), ForbiddenError,
        "This user may not use RAUC's service.",
        "begin the command with sudo; the appliance's own user is let in by a D-Bus policy, as the image has one.",
    ),
    (("no such file: ", "failed to open bundle"), RefusedError, "The bundle is not there, or not for us.", "check its path."),
    (
        ("certificate has expired", "certificate is not yet valid", "crl has expired"), RefusedError,
        "The certificate that signed the bundle is not valid at this machine's time.",
        "check the clock (timedatectl); if it is right, a bundle signed by a newer certificate is needed.",
    ),
    (
        ("is too small for image",), UpdateError, "The slot is smaller than what the bundle brings.",
        "this machine needs a fresh image, with larger slots: make a backup, flash it, restore the backup.",
    ),
    (
        ("cms routines::verification failure", "content verify error", "digest failure", "bundle payload"), RefusedError,
        "The bundle was altered after it had been signed.", RETRY,
    ),
    (
        ("self-signed certificate", "self signed certificate", "unable to get local issuer", "unable to get issuer",
         "certificate signature failure", "unable to verify the first certificate", "verify error",
         "signature verification failed"),
        RefusedError, "The bundle is signed by a key that this machine does not trust.", KEY,
    ),
    (
        ("signature size", "invalid bundle format", "failed to parse signature", "is no valid cms", "too small",
         "not a multiple of 4kib", "failed to seek"),
        RefusedError, "The file ends without a signature: it is truncated, was never signed, or is no bundle.", RETRY,
    ),
    (
        ("compatible mismatch",), RefusedError, "The bundle is for another kind of machine.",
        "take the bundle of this architecture: its name ends in the one that `prime-spark update status` shows.",
    ),
    (
        ("not supported by this rauc", "unsupported bundle format", "is not allowed", "version mismatch"), RefusedError,
        "The bundle has a format that this image does not take.", "build it as the image's own builder does.",
    ),
    (
        ("no space left",), UpdateError, "There was no room left.", "free space on the data partition, then try again.",
    ),
    (
        ("non-bootable", "marking slot", "custom backend", "failed to activate", "marked slot"), UpdateError,
        "The boot choice could not be changed.",
        "see journalctl -u rauc for why; /boot/firmware may be damaged or write-protected.",
    ),
    (
        ("/dev/mapper", "dm-verity", "loop device", "failed mounting bundle"), UpdateError,
        "The bundle could not be opened.", "see journalctl -u rauc; if the file is sound, restart the machine and try again.",
    ),
    (
        ("input/output error",), UpdateError, "The bundle or the slot could not be read or written.",
        "compare the bundle's SHA-256; if it is right, the card or disk of this machine may be failing: make a backup.",
    ),
    (
        ("no such device", "destination device", "could not determine target", "mounted"), UpdateError,
        "The slot that is to be written is not there, or in use.", "see journalctl -u rauc, and the partitions: lsblk.",
    ),
)  # fmt: skip
"""(what RAUC says, the error, what happened, the next step); the first one that fits."""


def explain(doing: str, said: str) -> ApplianceError:
    """What RAUC complains of, as one of our errors.

    Args:
        doing: What it was asked for, such as "install".
        said: What it wrote.
    """
    last = reason(said)
    low = f"{last}\n{said}".lower()
    for signs, kind, what, step in RULES:
        if any(each in low for each in signs):
            return kind(f"{what} RAUC says: {last}", step)
    return UpdateError(f"rauc {doing} failed: {last}", "see journalctl -u rauc, then try again.")


def reason(said: str) -> str:
    """The line that says most, without what GLib puts in front of it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith("LastError:")), "")
    if not told:
        weighty = [
            line for line in lines if not line.startswith(("rauc-Message", "(rauc", "D-Bus error while", "Installing `"))
        ]
        told = weighty[-1] if weighty else (lines[-1] if lines else "it did not say why")
    return printable(told.removeprefix("LastError:").strip()).rstrip(".")[:300]
