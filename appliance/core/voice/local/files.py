"""Where the recognition's model lies, and whether it is as it was made. The manifest is that of scripts/models/moonshine.py."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from pathlib import Path

from appliance.errors import AbsentError, VoiceError

NAME = "moonshine-tiny-en"
MANIFEST = "voice.toml"
"""Not manifest.toml: it is no model that the inference could run."""
STEP = "run: make setup"


def place(directories: Iterable[Path]) -> Path:
    """The first of some directories of models that has it; where none does, the first of all, so that it can be named."""
    known = list(directories)
    return next((each for each in known if (each / "voice" / NAME / MANIFEST).is_file()), known[0])


def installed(directories: Iterable[Path]) -> bool:
    """Whether one of some directories of models has it; its files are not looked at."""
    return (place(directories) / "voice" / NAME / MANIFEST).is_file()


def hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of each file of the model, as the manifest has them.

    Raises:
        AbsentError: The manifest, or a file of it, is not there.
        VoiceError: The manifest cannot be read.
    """
    manifest = directory / MANIFEST
    try:
        facts = tomllib.loads(manifest.read_text(encoding="utf-8"))
        wanted = {str(file["path"]): str(file["sha256"]) for file in facts["files"]}
    except FileNotFoundError:
        raise AbsentError("The model of the speech recognition is not installed.", STEP) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VoiceError(f"{manifest} cannot be read: {error}.", f"delete {directory}, then {STEP}") from error
    missing = [name for name in wanted if not (directory / name).is_file()]
    if missing:
        raise AbsentError(f"The model of the speech recognition has no {missing[0]}.", STEP)
    return wanted


def check(directory: Path) -> None:
    """Compare every file with its hash.

    Raises:
        AbsentError: One is not there. VoiceError: one was altered, or cannot be read.
    """
    for name, wanted in hashes(directory).items():
        try:
            with (directory / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise VoiceError(f"{directory / name} cannot be read: {error.strerror}.", STEP) from error
        if found != wanted:
            raise VoiceError(f"{directory / name} is damaged.", f"delete it, then {STEP}")
