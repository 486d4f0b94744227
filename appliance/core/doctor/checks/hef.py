"""The models' HEFs beside the Hailo that is to run them: compiled for its chip, and by a compiler that its library knows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path

from appliance.core.doctor import probe
from appliance.core.doctor.checks import hailo
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.inference import hef, manifest
from appliance.core.inference.hef import Hef
from appliance.core.model import CheckResult
from appliance.errors import ModelError

AGAIN = "add the model again: prime-spark model add"


def found(directories: Iterable[Path]) -> list[tuple[str, Path]]:
    """(name@version, path) of every HEF that a manifest names; manifests that cannot be read are the models check's."""
    files = []
    for directory in manifest.find(list(directories)):
        try:
            told = manifest.load(directory)
        except ModelError:
            continue
        if (named := told.file("hef")) is not None:
            files.append((f"{told.name}@{told.version}", directory / Path(named.path).name))
    return files


async def run(context: DoctorContext) -> CheckResult:
    """Read the headers, ask the device for its kind, hold one against the other."""
    files = await asyncio.to_thread(found, context.model_dirs)
    if not files:
        return CHECK.absent("no model has a HEF: all run on the CPU", "add one for the Hailo: prime-spark model add")
    heads: dict[str, Hef] = {}
    for key, path in files:
        try:
            heads[key] = await asyncio.to_thread(hef.read, path)
        except ModelError as error:
            return CHECK.failed(f"{key}: {error.message}", AGAIN)
    if hailo.missing(context) is not None:
        told = ", ".join(f"{key} for {head.architecture}" for key, head in heads.items())
        return CHECK.ok(f"{told}; no Hailo is there to hold them against")
    identity = await probe.run(["hailortcli", "fw-control", "identify"], context.environ, limit=10)
    device = re.search(r"Device Architecture: (\w+)", identity.out)
    library = await probe.run([context.system_python, "-c", hailo.ASK], context.environ, limit=10)
    return judge(heads, device[1] if device else "", library.out if library.good else "")


def judge(heads: dict[str, Hef], device: str, library: str) -> CheckResult:
    """Whether the files fit the device.

    Args:
        heads: By name@version.
        device: Its architecture, such as "HAILO8"; empty where it does not tell.
        library: Version of HailoRT; empty where it cannot be loaded.
    """
    if not device:
        return CHECK.warning(
            "the device does not tell its kind, so the HEFs cannot be held against it",
            "stop what holds it: sudo fuser -v /dev/hailo0",
        )
    strangers = [f"{key} is for {head.architecture}" for key, head in heads.items() if not head.fits(device)]
    if strangers:
        return CHECK.failed(
            f"{'; '.join(strangers)}; the device is a {device}",
            f"compile it with hw_arch={device.lower()}, then {AGAIN}",
        )
    newer = [f"{key} by {head.compiler}" for key, head in heads.items() if _newer(head.compiler, library)]
    if newer:
        return CHECK.warning(
            f"compiled by a Dataflow Compiler that is newer than HailoRT {library}, which may refuse it: {'; '.join(newer)}",
            f"{hailo.UPGRADE} or compile it with Dataflow Compiler {_matching(library)}",
        )
    return CHECK.ok(f"{', '.join(heads)}: for a {device}" + (f", known to HailoRT {library}" if library else ""))


def _newer(compiler: str, library: str) -> bool:
    """Compiler 3.n came with HailoRT 4.(n-10); from 5.0 on both have one number."""
    made, runs = _numbers(compiler), _numbers(library)
    if made is None or runs is None:
        return False
    return (made if made[0] >= 5 else (made[0] + 1, made[1] - 10)) > runs


def _matching(library: str) -> str:
    runs = _numbers(library)
    if runs is None:
        return "of the library's time"
    return f"{runs[0]}.{runs[1]}" if runs[0] >= 5 else f"{runs[0] - 1}.{runs[1] + 10}"


def _numbers(version: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None


CHECK = Check("hef", "Models for the Hailo", run, timeout=30)
