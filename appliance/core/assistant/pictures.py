"""What is attached to a question: a picture of a file, or the newest detection."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import NamedTuple

from appliance.core.model import InferenceResult
from appliance.errors import InvalidArgumentsError, NotFoundError

MIB = 2**20
KINDS = {"JPEG": (b"\xff\xd8\xff",), "PNG": (b"\x89PNG\r\n\x1a\n",), "GIF": (b"GIF87a", b"GIF89a"), "BMP": (b"BM",)}
"""First bytes of pictures that models take; WebP is looked for apart."""
FINDINGS = 40
"""Lines about one detection."""


class Attached(NamedTuple):
    """What goes along with a question."""

    name: str
    """For the reader; empty for no picture."""
    picture: bytes | None = None
    text: str = ""
    note: str = ""


def of_file(path: Path, most: float) -> Attached:
    """A picture; blocks.

    Args:
        path: Where it lies on this machine.
        most: MiB.

    Raises:
        NotFoundError: There is no such file.
        InvalidArgumentsError: It is no picture, too large, or cannot be read.
    """
    return Attached(path.name, _read(path, most))


def _read(path: Path, most: float) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArgumentsError(f"{path} is no file.", "give the path of a picture.")
        if found.st_size > most * MIB:
            told = f"{path} has {found.st_size / MIB:.1f} MiB, and {most:g} MiB are taken."
            raise InvalidArgumentsError(told, "make it smaller, or raise assistant.picture_mib.")
        with path.open("rb") as file:
            data = file.read(int(most * MIB) + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.", "give the path of a picture on this machine.") from error
    except OSError as error:
        raise InvalidArgumentsError(f"{path} cannot be read: {error.strerror}.", "look at its rights.") from error
    if kind_of(data) == "":
        raise InvalidArgumentsError(f"{path} is no picture.", f"give one of {', '.join(KINDS)}, WebP.")
    return data


def kind_of(data: bytes) -> str:
    """Kind of a picture by its first bytes; empty for none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((name for name, signs in KINDS.items() if data.startswith(signs)), "")


def of_detection(result: InferenceResult, most: float) -> Attached:
    """A detection as text, with its picture where that still lies where it lay; blocks."""
    text = described(result)
    if not result.sha256:
        return Attached("", None, text, "the detection's frame was not kept, so its findings alone went along")
    try:
        data = _read(Path(result.source), most)
    except (NotFoundError, InvalidArgumentsError) as error:
        return Attached("", None, text, f"without its picture: {error.message}")
    if hashlib.sha256(data).hexdigest() != result.sha256:
        return Attached("", None, text, f"without its picture: {result.source} is another one by now")
    return Attached(Path(result.source).name, data, text)


def described(result: InferenceResult) -> str:
    """What a model found, as lines."""
    head = f"Detection by {result.model} {result.model_version} ({result.task}, {result.backend}) on {result.source}"
    lines = [f"{head}, {result.width} x {result.height} pixels:"]
    lines += [
        f"- {box.label} {100 * box.score:.0f} % at ({box.x_min:.0f}, {box.y_min:.0f}) to ({box.x_max:.0f}, {box.y_max:.0f})"
        for box in result.boxes
    ]
    lines += [f"- {each.label} {100 * each.score:.0f} %" for each in result.classes]
    lines += [f"- {each.label} (a stretch of the recording)" for each in result.segments]
    if len(lines) == 1:
        lines.append("- nothing was found")
    if len(lines) > FINDINGS:
        lines[FINDINGS:] = [f"- and {len(lines) - FINDINGS} more"]
    return "\n".join(lines)
