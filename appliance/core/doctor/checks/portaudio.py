"""PortAudio, through which sound goes in and out."""

from __future__ import annotations

import json
import sys

from appliance.core.doctor import probe
from appliance.core.doctor.model import Check, DoctorContext
from appliance.core.model import CheckResult

ASK = """
import json, sounddevice
devices = sounddevice.query_devices()
print(json.dumps([sounddevice.get_portaudio_version()[1], sum(d["max_input_channels"] > 0 for d in devices), len(devices)]))
"""


async def run(context: DoctorContext) -> CheckResult:
    """Load it in a child: a broken ALSA configuration aborts the process that loads it."""
    answer = await probe.run([sys.executable, "-c", ASK], context.environ, limit=8)
    if answer.good:
        version, inputs, devices = json.loads(answer.out.splitlines()[-1])
        return CHECK.ok(f"{version.split(',')[0]}; {devices} devices, {inputs} of them inputs")
    if answer.hung:
        return CHECK.failed(
            f"listing the sound devices: {answer.problem}",
            "unplug the USB sound device; who holds it: sudo fuser -v /dev/snd/*",
        )
    if answer.code is not None and answer.code < 0:
        return CHECK.failed(
            f"PortAudio ended the process (signal {-answer.code})", "mend or remove ~/.asoundrc and /etc/asound.conf"
        )
    if "PortAudio library not found" in answer.problem:
        return CHECK.absent("the PortAudio library is not installed; voice needs it", "sudo apt-get install libportaudio2")
    return CHECK.failed(f"PortAudio: {answer.problem}", "make setup")


CHECK = Check("portaudio", "PortAudio", run, timeout=10)
