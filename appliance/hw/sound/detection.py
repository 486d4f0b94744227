"""Whether there is something to hear with, by looking only: /proc/asound, and the sockets of sound servers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from appliance.core.model import Device, Health
from appliance.core.soundserver import sound_server
from appliance.hw.sound.choice import is_respeaker

KIND, NAME = "microphone", "Microphone"
PLUG = "plug the ReSpeaker array, or another microphone, into a USB port of the board itself"
GROUP = "let this user use sound: sudo usermod -aG audio $USER; then log in again"


def microphone(environ: Mapping[str, str], root: Path) -> Device:
    """The microphone as a device: a card of the kernel's, else a sound server that may offer one.

    Args:
        environ: Environment variables; those of PulseAudio, PipeWire and ALSA point to what is elsewhere.
        root: Where /dev, /proc and /run are.
    """
    cards = captures(root)
    if cards:
        return _card(cards, root)
    server, missing = sound_server(environ, root)
    if missing:
        return Device(KIND, NAME, Health.unhealthy, missing, "start the sound server, or unset PULSE_SERVER")
    if server:
        return Device(KIND, NAME, Health.healthy, f"the sound server at {server}; what it offers is known once it is opened")
    return Device(KIND, NAME, Health.absent, "no capture device, and no sound server", PLUG)


def captures(root: Path) -> list[str]:
    """Names of the kernel's devices that record: lines such as "01-00: USB Audio : USB Audio : playback 1 : capture 1"."""
    lines = _text(root / "proc/asound/pcm").splitlines()
    cards = dict(re.findall(r"(?m)^ *(\d+) \[.*\n *(.*)$", _text(root / "proc/asound/cards")))
    """Long names by number: they are on the line behind."""
    names = []
    for line in lines:
        if "capture" in line:
            number = line.partition("-")[0].lstrip("0") or "0"
            names.append(cards.get(number) or line.split(":")[1].strip())
    return names


def _card(cards: list[str], root: Path) -> Device:
    nodes = sorted((root / "dev/snd").glob("pcmC*D*c"))
    name = next((card for card in cards if is_respeaker(card)), cards[0])
    if not nodes:
        return Device(KIND, name, Health.unhealthy, "ALSA knows it, but /dev/snd has no capture device", "plug it in again")
    if not any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        return Device(KIND, name, Health.unhealthy, "this user may not open /dev/snd", GROUP)
    return Device(KIND, name, Health.healthy, f"{len(nodes)} capture devices in /dev/snd")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
