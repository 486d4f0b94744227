"""The accelerators of this machine, in the order of preference."""

from __future__ import annotations

from pathlib import Path

from appliance.core.inference.model import DeviceReading
from appliance.core.ports import Accelerator
from appliance.hw import thermal
from appliance.hw.hailo import HailoAccelerator
from appliance.hw.onnx import OnnxAccelerator

TUNE = 3.0
"""Seconds for finding the quickest way to run a model on the CPU, when it is loaded first."""


def find(
    *,
    hailo: bool,
    python: str,
    device_id: str,
    stall_seconds: float,
    threads: int,
    ways: Path | None = None,
    sysfs: Path = Path("/sys"),
) -> tuple[Accelerator, ...]:
    """The Hailo first, the CPU behind it; nothing is opened yet.

    Args:
        hailo: Whether the Hailo may be used; one that may not is listed as absent.
        python: Interpreter that has the vendor's package; empty for the usual ones.
        device_id: Which Hailo of several.
        stall_seconds: Without an answer for so long, the Hailo is held for stalled.
        threads: Of the CPU, within one operator.
        ways: File that keeps how models run best on the CPU.
        sysfs: Where the machine's temperature is read.
    """
    return (
        HailoAccelerator(python, device_id, stall_seconds, enabled=hailo),
        OnnxAccelerator(threads, host=lambda: machine(sysfs), tune_seconds=TUNE, ways=ways),
    )


def machine(sysfs: Path) -> DeviceReading:
    """The CPU's temperature, and whether the firmware slows it down; None where nobody tells."""
    flags = thermal.throttled(sysfs)
    return DeviceReading(temperature_c=thermal.temperature(sysfs), throttled=None if flags is None else bool(flags))
