"""The models: there, and unaltered."""

from __future__ import annotations

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.inference import manifest
from appliance.core.model import CheckResult
from appliance.errors import ModelError

FIX = "make setup"


def look(context: DoctorContext) -> CheckResult:
    """Read every manifest and hash every file that one names."""
    found = manifest.find(list(context.model_dirs))
    if not found:
        return CHECK.absent(f"no model in {', '.join(str(path) for path in context.model_dirs)}", FIX)
    good, problems = [], []
    for directory in found:
        try:
            told = manifest.load(directory)
            manifest.verify_all(told, directory)
        except ModelError as error:
            problems.append(error)
        else:
            good.append(f"{told.name} {told.version}")
    if problems:
        return CHECK.failed("; ".join(error.message for error in problems), problems[0].next_step)
    return CHECK.ok(", ".join(good) + "; the hashes are right")


CHECK = Check("models", "Models", in_thread(look), timeout=20)
