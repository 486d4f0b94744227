"""Looking for a microphone without opening one."""

from __future__ import annotations

from pathlib import Path

from appliance.core.model import Health
from appliance.hw.sound.devices import PortAudioSound

PCM = "00-00: bcm2835 : bcm2835 : playback 8\n02-00: USB Audio : USB Audio : playback 1 : capture 1\n"


def plugged(root: Path) -> None:
    """A ReSpeaker as the kernel shows it."""
    (root / "proc/asound").mkdir(parents=True)
    (root / "proc/asound/pcm").write_text(PCM)
    (root / "proc/asound/cards").write_text(
        " 0 [Headphones     ]: bcm2835 - bcm2835\n                      bcm2835\n"
        " 2 [ArrayUAC10     ]: USB-Audio - ReSpeaker 4 Mic Array (UAC1.0)\n                      SEEED ReSpeaker 4 Mic Array\n"
    )


def test_nothing_there_is_absent(tmp_path: Path) -> None:
    device = PortAudioSound({}, tmp_path).detect()
    assert (device.kind, device.health) == ("microphone", Health.absent)
    assert "ReSpeaker" in device.next_step


def test_a_card_is_there_once_it_has_a_node(tmp_path: Path) -> None:
    plugged(tmp_path)
    sound = PortAudioSound({}, tmp_path)
    assert sound.detect().health is Health.unhealthy
    (tmp_path / "dev/snd").mkdir(parents=True)
    (tmp_path / "dev/snd/pcmC2D0c").touch()
    assert (sound.detect().health, sound.detect().name) == (Health.healthy, "SEEED ReSpeaker 4 Mic Array")


def test_a_sound_server_is_told_as_one(tmp_path: Path) -> None:
    socket = tmp_path / "native"
    sound = PortAudioSound({"PULSE_SERVER": f"unix:{socket}"}, tmp_path)
    assert (sound.detect().health, "nothing is there" in sound.detect().reason) == (Health.unhealthy, True)
    socket.touch()
    assert sound.detect().health is Health.healthy
    assert PortAudioSound({"PULSE_SERVER": "tcp:192.0.2.1"}, tmp_path).detect().health is Health.healthy


def test_a_sound_server_in_its_usual_place_is_found(tmp_path: Path) -> None:
    (tmp_path / "run/user/1000/pulse").mkdir(parents=True)
    (tmp_path / "run/user/1000/pulse/native").touch()
    assert PortAudioSound({"XDG_RUNTIME_DIR": "/run/user/1000"}, tmp_path).detect().health is Health.healthy
