"""How the voice is, in one report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.core.model import Health, HealthReport
from appliance.core.voice.model import EngineStatus

if TYPE_CHECKING:
    from appliance.core.voice.service import VoiceService

STALLED = 5.0
"""Seconds without sound from an open microphone."""
WELL = frozenset({Health.healthy, Health.degraded})
SOUND = {
    "silent": ("the microphone gives nothing but digital silence", "see whether it is muted at the device, or in the mixer"),
    "clipped": ("the microphone is too loud: its sound is clipped", "turn its gain down"),
    "offset": ("the microphone's sound has a large offset", "try another port or cable"),
}
Problem = tuple[str, str]


def report(service: VoiceService, why: HealthReport) -> HealthReport:
    """Absent where no microphone is; unhealthy where nothing can be understood; degraded where a part is missing.

    Args:
        service: The voice.
        why: Why no microphone listens, where none does.
    """
    ear, microphone = service.ear, service.microphone
    if ear is None or microphone is None:
        return why
    status = microphone.status()
    if ear.frames and service.ground.now() - ear.time > STALLED:
        told = f"no sound has come from {status.name} for {STALLED:g} s"
        return HealthReport(Health.unhealthy, told, "plug it in again")
    if not ear.frames:
        return HealthReport(Health.degraded, f"{status.name} is being opened")
    if (deaf := _deaf(service)) is not None:
        return HealthReport(Health.unhealthy, *deaf)
    problems = _problems(service)
    if problems:
        return HealthReport(Health.degraded, "; ".join(told for told, _ in problems), problems[0][1])
    if microphone.muted:
        return HealthReport(Health.healthy, "the microphone is muted")
    return HealthReport(Health.healthy, f"{status.name} listens for {' or '.join(map(repr, service.settings.wake_words))}")


def _statuses(service: VoiceService, kind: str) -> list[EngineStatus]:
    statuses = service.kit.engines.statuses() if service.kit.has("engines") else ()
    return [each for each in statuses if each.kind == kind]


def _deaf(service: VoiceService) -> Problem | None:
    """Why nothing that is said can be understood."""
    engines = _statuses(service, "stt")
    if not engines or any(each.health in WELL for each in engines):
        return None
    return f"nothing recognises speech: {engines[0].reason}", engines[0].next_step


def _speechless(service: VoiceService) -> list[Problem]:
    """Why no answer can be made into sound, where one is wanted; each engine that fails is told by itself."""
    engines = _statuses(service, "tts")
    missing = [each for each in engines if each.health is Health.absent]
    if not service.settings.speaker or not missing or any(each.health in WELL for each in engines):
        return []
    told = next((each for each in missing if each.next_step), missing[0])
    return [(f"nothing is said aloud: {told.reason}".rstrip("."), told.next_step or "see the engines")]


def _problems(service: VoiceService) -> list[Problem]:
    """What does not work as it should, the worst first."""
    room, kit, ear = service.room, service.kit, service.ear
    found: list[Problem] = _speechless(service)
    speaker = kit.speaker.status() if kit.has("speaker") and kit.speaker is not None else None
    if speaker is not None and speaker.problem:
        found.append((f"nothing is said aloud: {speaker.problem}".rstrip("."), speaker.next_step))
    for kind in ("stt", "tts", "wake"):
        bad = [each for each in _statuses(service, kind) if each.health is Health.unhealthy]
        found += [(f"{each.name} ({kind}): {each.reason}", each.next_step) for each in bad]
    if ear is not None and ear.spotting is not None and ear.spotting.problem:
        found.append((f"wake words are not looked for: {ear.spotting.problem}".rstrip("."), "see the engines"))
    if room.sound_problem in SOUND and not (room.sound_problem == "silent" and service.muted):
        found.append(SOUND[room.sound_problem])
    if room.array_problem:
        found.append((f"the microphone array: {room.array_problem}".rstrip("."), "see `prime-spark voice parameters`"))
    if service.server_problem:
        found.append((f"no Wyoming server: {service.server_problem}", "choose another wyoming.port"))
    return found
