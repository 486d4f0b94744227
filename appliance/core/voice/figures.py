"""Utterances, counted and timed as they end, and wake words. No words are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec

from appliance.core.observe.meter import Meter
from appliance.core.observe.sample import Sample
from appliance.core.voice.model import Utterance, VoiceStatus, WakeStatus

LIMITS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Seconds from the end of speech to the action."""


class Woken:
    """How often each wake word was heard since the start: whatever hears it counts anew for each opening of the microphone."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], WakeStatus] = {}

    def whole(self, statuses: Iterable[WakeStatus]) -> tuple[WakeStatus, ...]:
        """With what was counted before."""
        return tuple(map(self._whole, statuses))

    def keep(self, statuses: Iterable[WakeStatus]) -> None:
        """These count no further."""
        self._before |= {(each.phrase, each.heard_by): each for each in self.whole(statuses)}

    def _whole(self, now: WakeStatus) -> WakeStatus:
        before = self._before.get((now.phrase, now.heard_by))
        if before is None:
            return now
        return msgspec.structs.replace(now, times=before.times + now.times, last=now.last or before.last)


class VoiceFigures:
    """Told of the end of every utterance.

    Args:
        meter: Takes the figures.
        status: The voice as it is now; None before it has begun.
    """

    def __init__(self, meter: Meter, status: Callable[[], VoiceStatus | None]) -> None:
        self._status = status
        self._ended = meter.counter("voice_utterances_total", "Utterances by what came of them", "outcome", "origin")
        words = "From the last sound of speech until the action was begun"
        self._to_action = meter.times("voice_to_action_seconds", words, limits=LIMITS)
        words = "From the last sound of speech until the answer was heard"
        self._to_sound = meter.times("voice_to_sound_seconds", words, limits=LIMITS)
        self._stt = meter.times("voice_stt_seconds", "Time of a recognition", "engine", limits=LIMITS)
        self._wake = meter.counter("voice_wake_total", "Wake words heard", "phrase", "heard_by")
        self.counts: Counter[str] = Counter()
        meter.ask(self._samples)

    def woke(self, phrase: str, heard_by: str) -> None:
        """A wake word was heard."""
        self._wake.add(phrase, heard_by)

    def ended(self, one: Utterance) -> None:
        """An utterance has ended."""
        self.counts[one.outcome.value] += 1
        self._ended.add(one.outcome.value, one.origin)
        times = one.timings
        if times.to_action is not None:
            self._to_action.observe(times.to_action / 1000, trace_id=one.trace_id)
        if times.to_sound is not None:
            self._to_sound.observe(times.to_sound / 1000, trace_id=one.trace_id)
        if times.stt is not None and one.engine:
            self._stt.observe(times.stt / 1000, one.engine)

    def _samples(self) -> Iterator[Sample]:
        status = self._status()
        if status is None:
            return
        if (mic := status.microphone) is not None:
            yield Sample("voice_microphone_up", "gauge", "1 while it is open", float(mic.open))
            yield Sample("voice_lost_samples_total", "counter", "Samples of the microphone that were lost", mic.lost_samples)
            yield Sample("voice_overruns_total", "counter", "Times that sound came faster than it was taken", mic.overruns)
        words = "Bytes of sound that left the house"
        yield Sample("voice_audio_out_bytes_total", "counter", words, status.ledger.total_bytes)
        for engine in status.engines:
            label = (("engine", engine.name), ("kind", engine.kind))
            up = engine.health in {"healthy", "degraded"}
            yield Sample("voice_engine_up", "gauge", "1 where it works", float(up), label)
            yield Sample("voice_engine_used_total", "counter", "Requests", engine.used, label)
            yield Sample("voice_engine_failed_total", "counter", "Requests that failed", engine.failed, label)
