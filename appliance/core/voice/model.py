"""Values of the voice: what is heard, understood, said, and how its parts are."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from appliance.core.model import Health

RATE = 16000
"""Samples a second of all sound inside the appliance."""
FRAME = 512
"""Samples of a frame, 32 ms: what the voice activity detection takes at a time."""
FRAME_SECONDS = FRAME / RATE
WIDTH = 2
"""Bytes of a sample: signed 16 bit, little-endian, one channel."""


class Frame(msgspec.Struct, frozen=True):
    """A bit of sound from the microphone."""

    pcm: bytes
    """FRAME samples."""
    time: float
    """Monotonic clock (seconds) when its last sample was taken."""
    lost: int = 0
    """Samples that were lost before it."""


class SoundDevice(msgspec.Struct, frozen=True):
    """A device as PortAudio lists it."""

    index: int
    name: str
    inputs: int
    outputs: int
    rate: float
    """Its default, samples a second."""
    default_input: bool = False
    default_output: bool = False
    respeaker: bool = False


class MicrophoneStatus(msgspec.Struct, frozen=True):
    """How the microphone is."""

    name: str
    channels: int = 1
    """That it is opened with; 6 where a ReSpeaker has that firmware, of which channel 0 is heard."""
    rate: int = RATE
    open: bool = False
    muted: bool = False
    overruns: int = 0
    """Times that sound came faster than it was taken."""
    lost_samples: int = 0
    reopened: int = 0
    """Times that it was opened anew after it had gone."""
    since: float = 0.0
    """Wall clock since when it is open."""
    problem: str = ""
    next_step: str = ""


class SpeakerStatus(msgspec.Struct, frozen=True):
    """How the speaker is."""

    name: str
    available: bool = False
    playing: bool = False
    underruns: int = 0
    problem: str = ""
    next_step: str = ""


class ArrayStatus(msgspec.Struct, frozen=True):
    """What a microphone array says of itself over USB."""

    model: str
    firmware: str = ""
    direction: int | None = None
    """Degrees, 0 to 359, of the last speech; None where it was not read."""
    voice: bool | None = None
    """Its own voice activity."""
    parameters: dict[str, float] = {}
    problem: str = ""
    next_step: str = ""


class SoundLevel(msgspec.Struct, frozen=True):
    """The sound of the last moment, for meters."""

    time: float
    """Wall clock."""
    rms_db: float
    """dBFS, -96 at the least."""
    peak_db: float
    clipped: float = 0.0
    """Share of samples at full scale in the last second."""
    offset: float = 0.0
    """DC, share of full scale, before it is taken away."""
    bands: tuple[float, ...] = ()
    """dBFS of 16 bands, 60 Hz to 8 kHz, even in octaves."""
    speech: float = 0.0
    """Probability of speech."""
    direction: int | None = None
    problem: str = ""
    """"silent" (digital silence for seconds), "clipped", "offset", or none."""


class Stage(StrEnum):
    """What the voice does now."""

    absent = "absent"
    muted = "muted"
    idle = "idle"
    """It waits for its name, or for the key."""
    listening = "listening"
    thinking = "thinking"
    """It recognises and understands."""
    acting = "acting"
    speaking = "speaking"
    following = "following"
    """It listens without its name, for a while."""
    confirming = "confirming"
    """It waits for a yes or a no."""


class Place(StrEnum):
    """Where an engine runs."""

    local = "local"
    edge = "edge"
    """Another machine of the house."""
    cloud = "cloud"


class EngineStatus(msgspec.Struct, frozen=True):
    """One engine that turns speech into text, or text into speech, or hears wake words."""

    name: str
    kind: str
    """"stt", "tts", "wake" or "vad"."""
    place: Place
    health: Health
    reason: str
    next_step: str = ""
    model: str = ""
    used: int = 0
    failed: int = 0
    last_ms: float | None = None
    """How long its last work took."""
    checked: float = 0.0
    """Wall clock of the last look at its health."""


class WakeStatus(msgspec.Struct, frozen=True):
    """One wake word."""

    phrase: str
    heard_by: str
    """Model that hears it, or "speech recognition"."""
    score: float | None = None
    """The newest of the last ten seconds; it wakes at `threshold`. None where nobody looked for it in that time."""
    best: float | None = None
    """The highest of the last ten seconds."""
    threshold: float = 0.5
    times: int = 0
    """It was heard since the start of the appliance."""
    last: float = 0.0
    """Wall clock; 0: never."""
    problem: str = ""


class Guess(msgspec.Struct, frozen=True):
    """A sentence of the grammar, and how well it fits what was said."""

    text: str
    score: float
    """Mean log-probability of its tokens (natural logarithm), 0 at best."""


class Sentences(msgspec.Struct, frozen=True):
    """All that may be said as a command: recognition is drawn towards it. Equal keys have equal sentences."""

    key: str
    texts: tuple[str, ...]
    """Lower case, words and spaces only, numbers as words."""
    before: tuple[str, ...] = ()
    """Wake words, and words of politeness, that may be said before each; they are no part of a guess."""
    said: str = ""
    """The wake word with which the sound surely begins: it was heard already, and is no part of the text."""


NO_SENTENCES = Sentences("", ())


class Transcript(msgspec.Struct, frozen=True):
    """What an engine heard."""

    text: str
    """What it heard freely, "" for nothing."""
    engine: str
    place: Place = Place.local
    score: float | None = None
    """Mean log-probability of a token; None where the engine does not tell."""
    guesses: tuple[Guess, ...] = ()
    """Sentences of the grammar that fit best, best first; only from engines that can weigh them."""
    seconds: float = 0.0
    """Of sound."""
    took_ms: float = 0.0
    fell_back: tuple[str, ...] = ()
    """Engines that were asked before and did not answer, each with its reason: "primecore3: does not answer"."""
    kept: bool = False
    """The engine knew it from the same sound before: `took_ms` is no time of a recognition."""


class Speech(msgspec.Struct, frozen=True):
    """Sound that an engine made of a text: mono, 16 bit."""

    pcm: bytes
    rate: int
    engine: str
    place: Place = Place.local
    took_ms: float = 0.0
    fell_back: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it sounds."""
        return len(self.pcm) / WIDTH / self.rate


class Outcome(StrEnum):
    """What came of an utterance."""

    done = "done"
    """A command was carried out, or a question answered."""
    answered = "answered"
    """A language model answered."""
    asked = "asked"
    """It waits for a yes, or for what was missing."""
    declined = "declined"
    """The confirmation was no, or did not come."""
    refused = "refused"
    """The role may not do it, or something speaks against it now."""
    failed = "failed"
    unknown = "unknown"
    """Not understood, and nobody else to ask."""
    empty = "empty"
    """No words were heard."""
    cancelled = "cancelled"


class Reply(msgspec.Struct, frozen=True):
    """What is said to an utterance, and what came of it."""

    text: str
    outcome: Outcome
    action: str = ""
    args: dict[str, Any] = {}
    intent: str = ""
    """Name of what was understood, such as "power.set-mode" or "help"."""
    confidence: float = 0.0
    """0 to 1."""
    expects: str = ""
    """"confirm" or "slot" where it waits for more; the microphone stays open then."""
    source: str = "command"
    """"command", "llm" or "local"."""
    request_id: str = ""
    understood: str = ""
    """The sentence that was meant, as the commands have it; empty where none was."""


class Timings(msgspec.Struct, frozen=True):
    """Milliseconds of each part of a turn; None where it had no such part."""

    speech: float | None = None
    """From the first to the last sound of speech."""
    endpoint: float | None = None
    """From the last sound of speech until it was known to be the last."""
    stt: float | None = None
    understand: float | None = None
    act: float | None = None
    tts: float | None = None
    """Until the first sound of the answer was there."""
    to_action: float | None = None
    """From the last sound of speech until the action was begun."""
    to_sound: float | None = None
    """From the last sound of speech until the answer was heard."""


class Utterance(msgspec.Struct, frozen=True):
    """One turn, ended."""

    utterance_id: str
    time: float
    """Wall clock when it began."""
    origin: str
    """"microphone", "key" (push to talk), "follow-up", "wyoming", "file", "text"."""
    wake_word: str = ""
    wake_score: float | None = None
    words: str = ""
    """As they were heard freely."""
    understood: str = ""
    """The command that was understood by them, in its own words; empty where it was none."""
    engine: str = ""
    place: Place = Place.local
    fell_back: tuple[str, ...] = ()
    outcome: Outcome = Outcome.empty
    action: str = ""
    reply: str = ""
    confidence: float = 0.0
    direction: int | None = None
    timings: Timings = Timings()
    trace_id: str = ""
    kept: str = ""
    """Key of its sound in the memory, where it was kept."""
    note: str = ""
    """What else is to be known: "cut off after 20 s", "clipped", "barged in"."""


class Hit(msgspec.Struct, frozen=True):
    """A wake word was heard."""

    phrase: str
    score: float
    """0 to 1."""
    heard_by: str


class LedgerRow(msgspec.Struct, frozen=True):
    """Sound or words that left the house."""

    row: int
    time: float
    service: str
    host: str
    kind: str
    """"stt", "tts" or "wake"."""
    utterance_id: str
    audio_bytes: int
    text_bytes: int
    outcome: str
    """"answered", "failed", "cut off"."""


class LedgerTotals(msgspec.Struct, frozen=True):
    """What left the house today (UTC), and in all."""

    today_bytes: int = 0
    cap_bytes: int = 0
    total_bytes: int = 0
    today_text_bytes: int = 0
    requests: int = 0


class VoiceStatus(msgspec.Struct, frozen=True):
    """All of the voice at one moment; section `voice` of the live state."""

    stage: Stage
    since: float
    """Wall clock since when."""
    microphone: MicrophoneStatus | None = None
    speaker: SpeakerStatus | None = None
    array: ArrayStatus | None = None
    wake: tuple[WakeStatus, ...] = ()
    engines: tuple[EngineStatus, ...] = ()
    privacy: str = "edge-only"
    role: str = "operator"
    ledger: LedgerTotals = LedgerTotals()
    hearing: str = ""
    """Words so far of the utterance under way."""
    asking: str = ""
    """What it waits for a yes to."""
    utterances: tuple[Utterance, ...] = ()
    """The newest 50, newest first."""
    degraded: str = ""
    """What does not work as it should, as it says it aloud; empty where all is well."""
    server: str = ""
    """Address of the Wyoming server, where it listens."""
    clients: int = 0
    counts: dict[str, int] = {}
    """Utterances by outcome, since the start."""
    why: str = ""
    """Why no microphone listens; empty where one does."""
    next_step: str = ""
    """What to do about that."""
