"""The libraries that the appliance is pinned to: there, of that version, and loadable."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from importlib import metadata

from packaging.requirements import Requirement

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

FIX = "make setup"
NATIVE = ("onnxruntime", "duckdb", "numpy", "PIL.Image", "asyncssh", "msgspec", "psutil", "pydantic", "argon2", "textual")
"""Modules with compiled parts, or that need such; a wrong build fails only when it is loaded."""
LOADER = """
import importlib, json, sys
problems = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        problems[name] = f"{type(error).__name__}: {error}"
print(json.dumps(problems))
"""


async def run(context: DoctorContext) -> CheckResult:
    """Compare versions with the pins, then load what can fail to load in a child."""
    try:
        pinned = metadata.requires("prime-spark") or []
    except metadata.PackageNotFoundError:
        return CHECK.failed("the package prime-spark is not installed in this environment", FIX)
    wrong = problems(pinned, metadata.version)
    if wrong:
        return CHECK.failed("; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""), FIX)
    return await load(context, NATIVE, len(pinned))


def problems(pinned: Iterable[str], version_of: Callable[[str], str]) -> list[str]:
    """What is missing or of another version.

    Args:
        pinned: Requirements with an exact version.
        version_of: Installed version by name; raises PackageNotFoundError.
    """
    found = []
    for wanted in map(Requirement, pinned):
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            version = version_of(wanted.name)
        except metadata.PackageNotFoundError:
            found.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{wanted.name} is {version}, wanted {str(wanted.specifier).lstrip('=')}")
    return found


async def load(context: DoctorContext, modules: Iterable[str], count: int) -> CheckResult:
    """Load modules in a child, so that one which aborts takes nothing with it."""
    answer = await probe.run([sys.executable, "-c", LOADER, *modules], context.environ, limit=25)
    if not answer.good:
        return CHECK.failed(f"loading the libraries ended the process: {answer.problem}", FIX)
    failed: dict[str, str] = json.loads(answer.out.splitlines()[-1])
    if failed:
        return CHECK.failed("; ".join(f"{name} cannot be loaded ({reason})" for name, reason in failed.items()), FIX)
    return CHECK.ok(f"{count} pinned libraries, all of their versions and loadable")


CHECK = Check("libraries", "Python libraries", run, timeout=30)
