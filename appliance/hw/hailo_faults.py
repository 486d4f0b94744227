"""What the vendor's exceptions mean: the device's fault, or the model's, and what to do."""

from __future__ import annotations

from typing import Any

from appliance.errors import DeviceError, DeviceStalledError, ModelError


class TakenError(DeviceError):
    """Another program holds the device: it is not ours to reset."""


STEPS = {
    "Refused": "set hailo.device_id to one that is there.",
    "HailoRTTimeout": "it is reset by itself; if it goes on, restart the machine.",
    "HailoRTDriverOperationFailedException": "see: sudo dmesg | grep -i hailo",
    "HailoRTInvalidHEFException": "fetch the model again.",
    "HailoRTHEFNotCompatibleWithDevice": "take the HEF that was compiled for this chip.",
}
"""Next step by the exception's class."""
MODELS = {
    "HailoRTInvalidHEFException",
    "HailoRTHEFNotCompatibleWithDevice",
    "HailoRTInvalidArgumentException",
    "HailoRTNotFoundException",
    "HailoRTInvalidOperationException",
    "HailoRTInvalidFrameException",
    "Refused",
    "ValueError",
    "KeyError",
    "FileNotFoundError",
    "MemoryError",
}
"""Classes that blame the model or its inputs; all others blame the device."""
STATUSES: dict[int, tuple[type[ModelError], str, str]] = {
    3: (ModelError, "there is not enough memory", "free memory, or use a smaller model."),
    13: (ModelError, "the file cannot be opened", "fetch the model again."),
    64: (DeviceError, "its driver is not loaded", "sudo apt-get install hailo-all && sudo reboot"),
    71: (ModelError, "the chip has no memory left for it", "unload another model."),
    73: (TakenError, "another program holds the device", "stop it: sudo fuser -v /dev/hailo0"),
    74: (TakenError, "no free device was found", "stop what holds it: sudo fuser -v /dev/hailo0"),
    76: (
        DeviceError,
        "the driver is of another version than the library",
        "prime-spark doctor says which; install equal versions.",
    ),
    85: (
        DeviceError,
        "the driver is of another version than the library",
        "prime-spark doctor says which; install equal versions.",
    ),
    86: (
        DeviceError,
        "the driver is of another version than the library",
        "prime-spark doctor says which; install equal versions.",
    ),
    87: (DeviceStalledError, "the driver waited in vain for the chip", "it is reset by itself."),
    91: (ModelError, "the file is damaged", "fetch the model again."),
    92: (
        ModelError,
        "the file is of a version that this library does not know",
        "upgrade hailo-all, or compile the model again.",
    ),
    93: (ModelError, "it was compiled for another chip", "take the HEF that was compiled for this chip."),
}
"""By hailo_status (hailort.h): whom it blames, what it means, the next step."""


def from_worker(op: str, told: dict[str, Any]) -> ModelError:
    """An error that the worker answered with."""
    name, text = str(told["error"]), str(told["text"])
    error = _error(op, name, text, told.get("status") or 0)
    if op in {"open", "reset"} and not isinstance(error, DeviceError):  # no model has anything to do with it
        return DeviceError(error.message, error.next_step)
    return error


def _error(op: str, name: str, text: str, status: int) -> ModelError:
    if (known := STATUSES.get(status)) is not None:
        kind, meaning, step = known
        return kind(f"The Hailo could not {_doing(op)}: {meaning} ({text}).", step)
    step = STEPS.get(name, "see: sudo dmesg | grep -i hailo")
    message = f"The Hailo could not {_doing(op)}: {text.rstrip('.')} ({name})."
    if name == "HailoRTTimeout":
        return DeviceStalledError(message, step)
    if name in MODELS:
        return ModelError(message, STEPS.get(name, "check the model and its manifest."))
    return DeviceError(message, step)


def _doing(op: str) -> str:
    return {
        "infer": "run the model",
        "load": "load the model",
        "open": "be opened",
        "reset": "be reset",
        "prepare": "set up the model",
    }.get(op, op)
