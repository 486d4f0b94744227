"""Sound of a real PulseAudio comes through PortAudio as it was said; a microphone that goes is told, and found again."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from appliance.core.voice.model import FRAME, WIDTH
from appliance.errors import AbsentError, DeviceError, DeviceStalledError
from appliance.hw.sound.devices import PortAudioSound
from appliance.hw.sound.microphone import PortAudioMicrophone
from tests.servers.sound import SoundRoom
from tests.sound.ears import listening, noise, pitch, tone
from tests.support import wait_for


@pytest.fixture
def microphone(sound_room: SoundRoom) -> PortAudioMicrophone:
    """The ReSpeaker of the room."""
    return PortAudioSound(sound_room.environ).microphone()


async def test_what_is_said_arrives_bit_for_bit_from_the_first_of_six_channels(
    sound_room: SoundRoom, microphone: PortAudioMicrophone
) -> None:
    said = noise(3.0)
    async with listening(microphone) as ears:
        await sound_room.say(said)
        await wait_for(lambda: said in ears.pcm, message="all of it arrives")
        status = microphone.status()
    assert (status.name, status.channels, status.rate, status.open) == ("ReSpeaker_4_Mic_Array_UAC1", 6, 16000, True)
    assert (status.lost_samples, status.overruns, {len(frame.pcm) for frame in ears.frames}) == (0, 0, {FRAME * WIDTH})
    times = [frame.time for frame in ears.frames]
    assert times == sorted(times)
    assert not microphone.status().open


async def test_a_muted_microphone_gives_zeros_until_it_hears_again(
    sound_room: SoundRoom, microphone: PortAudioMicrophone
) -> None:
    first, second = noise(0.5), tone(0.5)
    microphone.muted = True
    async with listening(microphone) as ears:
        await sound_room.say(first)
        assert microphone.status().muted
        assert not any(ears.pcm)
        microphone.muted = False
        await sound_room.say(second)
        await wait_for(lambda: second in ears.pcm)
        microphone.muted = True
        count = len(ears.frames)
        await sound_room.say(first)
        await wait_for(lambda: len(ears.frames) > count + 20)
        assert not any(b"".join(frame.pcm for frame in ears.frames[count:]))
    assert first not in ears.pcm


async def test_the_process_itself_gives_zeros_while_it_is_muted(sound_room: SoundRoom) -> None:
    from appliance.hw.sound.child import Child

    child = await Child.start(sound_room.environ, {"mode": "microphone", "name": "auto", "rate": 16000, "muted": True})
    try:
        assert (await child.event(10))["event"] == "open"
        saying = asyncio.create_task(sound_room.say(noise(0.3)))
        sound = [await child.receive(5) for _ in range(15)]
        await saying
    finally:
        await child.close()
    assert not any(b"".join(each[-FRAME * WIDTH :] for each in sound))


async def test_an_unplugged_microphone_is_told_and_found_again(sound_room: SoundRoom, microphone: PortAudioMicrophone) -> None:
    async with listening(microphone) as ears:
        sound_room.unplug()
        await wait_for(lambda: ears.error is not None)
    assert isinstance(ears.error, DeviceError)
    status = microphone.status()
    assert not status.open
    assert "plug it in again" in status.next_step
    sound_room.plug()
    async with listening(microphone) as ears:
        said = noise(0.3)
        await sound_room.say(said)
        await wait_for(lambda: said in ears.pcm)
        status = microphone.status()
    assert (status.open, status.reopened, status.problem) == (True, 1, "")


async def test_a_sound_server_that_is_killed_is_told(sound_room: SoundRoom, microphone: PortAudioMicrophone) -> None:
    async with listening(microphone) as ears:
        sound_room.kill()
        await wait_for(lambda: ears.error is not None)
    assert isinstance(ears.error, DeviceError)
    with pytest.raises(AbsentError, match="no sound input device"):
        await anext(microphone.frames())
    sound_room.start()
    async with listening(microphone):
        assert microphone.status().open


async def test_a_hung_process_is_killed_and_told(microphone: PortAudioMicrophone) -> None:
    async with listening(microphone) as ears:
        pid = microphone.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await wait_for(lambda: ears.error is not None)
    assert isinstance(ears.error, DeviceStalledError)
    assert not Path(f"/proc/{pid}").exists()
    async with listening(microphone):
        assert microphone.pid != pid


async def test_sound_that_nobody_takes_is_lost_and_counted(sound_room: SoundRoom, microphone: PortAudioMicrophone) -> None:
    frames = microphone.frames()
    before = await anext(frames)
    await sound_room.say(noise(4.0))  # longer than all that may wait
    async for frame in frames:
        if frame.lost:
            break
        before = frame
    gap = round((frame.time - before.time) * 16000) - FRAME
    assert abs(frame.lost - gap) <= FRAME
    assert (microphone.status().lost_samples, microphone.status().overruns) == (frame.lost, 1)
    await microphone.close()


async def test_a_microphone_at_another_rate_is_converted(sound_room: SoundRoom) -> None:
    refused = 500_000
    microphone = PortAudioSound(sound_room.environ).microphone("respeaker", refused)
    async with listening(microphone) as ears:
        await sound_room.say(tone(1.0))
        assert microphone.status().rate == 44100
        await wait_for(lambda: len(ears.frames) > 40)
    heard = ears.pcm[len(ears.pcm) // 2 :]
    assert pitch(heard) == pytest.approx(440, abs=3)


async def test_a_device_that_is_not_there_is_absent_with_those_that_are(sound_room: SoundRoom) -> None:
    microphone = PortAudioSound(sound_room.environ).microphone("Jabra")
    with pytest.raises(AbsentError, match='called "Jabra"; there are ReSpeaker_4_Mic_Array_UAC1'):
        await anext(microphone.frames())
    assert "prime-spark voice devices" in microphone.status().next_step


@pytest.mark.parametrize(
    ("text", "told"),
    [("pcm.x { type pulse", "Error initializing PortAudio"), ("pcm.x { type pulse }", "SIGABRT")],
    ids=["torn", "bare"],
)
async def test_a_broken_sound_configuration_ends_the_process_and_not_us(
    sound_room: SoundRoom, tmp_path: Path, text: str, told: str
) -> None:
    broken = tmp_path / "broken.conf"
    broken.write_text(text)
    sound = PortAudioSound({**sound_room.environ, "ALSA_CONFIG_PATH": str(broken)})
    with pytest.raises(DeviceError, match=told) as error:
        await sound.devices()
    assert "configuration is broken" in error.value.message
    assert "asound.conf" in error.value.next_step


async def test_a_process_that_is_killed_is_told(microphone: PortAudioMicrophone) -> None:
    async with listening(microphone) as ears:
        assert microphone.pid is not None
        os.kill(microphone.pid, signal.SIGKILL)
        await wait_for(lambda: ears.error is not None)
    assert isinstance(ears.error, DeviceError)


async def test_whoever_asks_anew_takes_over_and_closing_lets_go(sound_room: SoundRoom) -> None:
    sound = PortAudioSound(sound_room.environ)
    microphone = sound.microphone()
    async with listening(microphone) as first, listening(microphone) as second:
        await wait_for(lambda: first.error is not None)
        assert second.error is None
        await sound.close()
        await wait_for(lambda: second.error is not None)
    await wait_for(lambda: sound_room.streams() == 0)


async def test_the_same_microphone_counts_on_and_only_the_newest_reader_goes_on(sound_room: SoundRoom) -> None:
    sound = PortAudioSound(sound_room.environ)
    async with listening(sound.microphone()):
        assert sound.microphone().status().reopened == 0
    microphone = sound.microphone()
    async with listening(microphone, opened=False) as first, listening(microphone, opened=False) as second:
        await wait_for(lambda: first.error is not None and second.frames)
        assert second.error is None
        assert (microphone.status().open, microphone.status().reopened) == (True, 1)


async def test_what_is_closed_while_it_is_opened_leaves_no_process(sound_room: SoundRoom) -> None:
    sound = PortAudioSound(sound_room.environ)
    microphone, speaker = sound.microphone(), sound.speaker("desk")
    async with listening(microphone, opened=False) as ears:
        checking = asyncio.create_task(speaker.check())
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # both have begun, and neither has its process yet
        assert (microphone.pid, speaker.pid) == (None, None)
        await sound.close()
        await wait_for(lambda: ears.error is not None and checking.done())
        assert (microphone.pid, speaker.pid) == (None, None)
        assert not (await checking).available


async def test_the_devices_are_those_of_portaudio(sound_room: SoundRoom) -> None:
    devices = {device.name: device for device in await PortAudioSound(sound_room.environ).devices()}
    assert devices["ReSpeaker_4_Mic_Array_UAC1"].respeaker
    assert devices["ReSpeaker_4_Mic_Array_UAC1"].inputs >= 6
    assert not devices["Desk_Speaker"].respeaker
    assert devices["default"].default_input
