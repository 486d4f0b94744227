"""The ReSpeaker array, or another microphone."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.doctor.probe import in_thread
from appliance.core.model import CheckResult
from appliance.core.soundserver import sound_server

RESPEAKER = ("2886", "0018")
"""USB vendor and product of the ReSpeaker 4-Mic Array."""
RULE = 'SUBSYSTEM=="usb", ATTR{idVendor}=="2886", ATTR{idProduct}=="0018", MODE="0660", GROUP="audio"'
PLUG = "plug the ReSpeaker array into a USB port of the board itself"
RULE_FIX = (
    f"echo '{RULE}' | sudo tee /etc/udev/rules.d/60-respeaker.rules && sudo udevadm control --reload && sudo udevadm trigger"
)


def look(context: DoctorContext) -> CheckResult:
    """USB first, then ALSA: each can be there without the other; where neither is, a sound server may offer one."""
    array = next((path for path in _usb(context) if _ids(path) == RESPEAKER), None)
    captures = [line for line in context.text("proc/asound/pcm").splitlines() if "capture" in line]
    if array is None and not captures:
        return _served(context)
    if array is None:
        name = captures[0].split(":")[1].strip()
        return CHECK.warning(
            f"{name}, not a ReSpeaker array: no direction of arrival, no echo cancelling", "plug the ReSpeaker array in"
        )
    if not captures:
        return CHECK.failed(
            "the ReSpeaker array is on USB, but ALSA shows no capture device",
            "sudo modprobe snd-usb-audio, or plug it in again",
        )
    node = context.root / "dev/bus/usb" / f"{_number(array / 'busnum'):03d}" / f"{_number(array / 'devnum'):03d}"
    if not os.access(node, os.R_OK | os.W_OK):
        return CHECK.warning("the ReSpeaker array records; its direction of arrival may not be read by this user", RULE_FIX)
    return CHECK.ok(f"ReSpeaker 4-Mic Array on USB {array.name}; {len(captures)} capture devices")


def _served(context: DoctorContext) -> CheckResult:
    server, missing = sound_server(context.environ, context.root)
    if missing:
        return CHECK.failed(missing, "start the sound server, or unset PULSE_SERVER")
    if not server:
        return CHECK.absent("no capture device, and no sound server", PLUG)
    return CHECK.ok(f"no sound card of its own; the sound server at {server} may offer one: `prime-spark voice devices`")


def _usb(context: DoctorContext) -> list[Path]:
    return [path.parent for path in context.paths("sys/bus/usb/devices/*/idProduct")]


def _ids(device: Path) -> tuple[str, str]:
    return _read(device / "idVendor"), _read(device / "idProduct")


def _number(path: Path) -> int:
    text = _read(path)
    return int(text) if text.isdigit() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


CHECK = Check("microphone", "Microphone", in_thread(look))
