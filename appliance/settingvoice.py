"""Settings of the voice: what listens, what answers, and what may leave the house."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from appliance import settingforms as forms
from appliance.settinggroups import Group, Port, env
from appliance.settingllm import outside


def _split(value: Any) -> Any:
    """A text with commas, as the environment has it, is a list; one of a file is a tuple from here on."""
    if isinstance(value, str):
        return tuple(each.strip() for each in value.split(",") if each.strip())
    return tuple(value) if isinstance(value, list) else value


def check_wyoming(text: str) -> str:
    """An address of a Wyoming server. Raises SettingError."""
    try:
        parts = urlsplit(text)
        port = parts.port
        bad = not (parts.scheme == "tcp" and parts.hostname and port) and not (parts.scheme == "unix" and parts.path)
    except ValueError:
        bad = True
    if bad or parts.query or parts.fragment or parts.username:
        raise forms.SettingError("this is no address of a Wyoming server", 'write it such as "tcp://192.0.2.13:10300".')
    return text


Phrase = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z' ]{1,38}[A-Za-z]$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Kind = Literal["stt", "tts", "wake"]


class VoiceService(Group):
    """A Wyoming server that does a part of the work, such as [voice.services.primecore3]."""

    url: Annotated[str, Field(max_length=300), AfterValidator(check_wyoming)]
    """Where it is, such as tcp://192.0.2.13:10300, or unix:///run/whisper.sock."""
    place: Literal["edge", "cloud"] = "edge"
    """What goes to cloud leaves the house, and is in the ledger."""
    kinds: tuple[Kind, ...] = ("stt", "tts")
    """What it is asked for: stt (speech to text), tts (text to speech), wake (wake words)."""
    model: Annotated[str, Field(max_length=200)] = ""
    """Model of its speech to text; empty for its own choice."""
    voice: Annotated[str, Field(max_length=200)] = ""
    """Voice of its text to speech; empty for its own choice."""
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 5.0
    """It is given up after so long, and the next one is asked."""

    @model_validator(mode="after")
    def _fits(self) -> VoiceService:
        if self.place != "cloud" and self.url.startswith("tcp:") and outside(self.url):
            raise forms.SettingError("this address is not in the house", 'set place = "cloud".')
        return self


class WyomingSettings(Group):
    """The appliance as a Wyoming server: speech to text, text to speech and wake words for others, and a satellite."""

    enabled: bool = False
    """Open the port. The protocol knows no passwords: whoever reaches the port may use it."""
    host: str = "127.0.0.1"
    """Address to listen on; that of the VPN, say, never one that strangers reach."""
    port: Port = 10700
    """TCP port; 0 picks a free one."""
    connections: Annotated[int, Field(ge=1, le=64)] = 8
    """Most clients at one time."""
    satellite: bool = False
    """Be the microphone and the speaker of whoever connects (Home Assistant): what is said after the wake word goes there."""


class VoiceSettings(Group):
    """Voice: it listens where a microphone is, and all of it stays in the house unless the operator says otherwise."""

    enabled: Literal["auto", "yes", "no"] = "auto"
    """auto: where a microphone is found."""
    microphone: Annotated[str, Field(max_length=200)] = "auto"
    """Part of its name as `prime-spark voice devices` has it; auto: a ReSpeaker, else the system's default input."""
    speaker: Annotated[str, Field(max_length=200)] = "auto"
    """Part of its name; auto: the system's default output; empty: nothing is said aloud."""
    sample_rate: Annotated[int, Field(ge=8000, le=192000)] = Field(16000, json_schema_extra=env("SAMPLE_RATE"))
    """Samples a second that the microphone is opened with; another rate of the device is converted."""
    array: bool = True
    """Use what a ReSpeaker offers over USB: direction, its own voice activity, gain, noise suppression, lights."""
    wake_words: Annotated[tuple[Phrase, ...], BeforeValidator(_split), Field(max_length=8)] = Field(
        ("hey spark", "hey prime"), json_schema_extra=env("WAKE_WORDS")
    )
    """What it listens for; those that a model knows are heard by it, the others by the speech recognition."""
    wake_models: Annotated[tuple[str, ...], Field(max_length=8)] = ()
    """Further microWakeWord models: paths of their JSON files."""
    wake_sensitivity: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Higher hears more, and more often wrongly."""
    end_silence_ms: Annotated[int, Field(ge=100, le=3000)] = 500
    """Silence that ends an utterance; one that is a whole command ends sooner."""
    listen_seconds: Annotated[float, Field(ge=1, le=60)] = 6.0
    """How long it waits for speech after the wake word."""
    utterance_seconds: Annotated[float, Field(ge=2, le=300)] = 20.0
    """Longest utterance; a longer one is cut off, and told so."""
    follow_up_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """How long it goes on listening after an answer, without the wake word; 0 for not at all."""
    barge_in: bool = True
    """Whoever speaks the wake word while it speaks silences it."""
    tones: bool = True
    """Short tones say that it listens, and that it has stopped."""
    role: Literal["viewer", "operator", "admin"] = "operator"
    """What whoever is heard may do: a microphone cannot tell people apart."""
    confirm_seconds: Annotated[float, Field(ge=2, le=120)] = 10.0
    """How long it waits for the yes to a dangerous command; then nothing is done."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]{2,8})*$")] = "en-us"
    """Voice of espeak-ng; commands are understood in English only."""
    voice_speed: Annotated[int, Field(ge=80, le=400)] = 165
    """Words a minute of the voice on this machine."""
    volume: Annotated[int, Field(ge=0, le=100)] = 80
    """Loudness of what it says, percent."""
    piper: Annotated[str, Field(max_length=4000)] = ""
    """Voice file of piper (*.onnx), where that is installed; empty for espeak-ng."""
    stt: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)] = ("local",)
    """Who turns speech into text, in order: local, or names of [voice.services]."""
    tts: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)] = ("local",)
    """Who turns text into speech, in order."""
    wake: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)] = ("local",)
    """Who listens for wake words, in order; those beyond local are sent all that sounds like speech."""
    privacy: Literal["edge-only", "cloud"] = "edge-only"
    """edge-only: neither sound nor words leave the house; cloud: services with place cloud, and such models, may be asked."""
    cloud_audio_mib_per_day: Annotated[float, Field(ge=0, le=100_000)] = 50.0
    """Most sound that leaves the house in a day (UTC), MiB; beyond it only what is in the house is asked."""
    services: Annotated[dict[Name, VoiceService], Field(max_length=16)] = Field({})
    """Wyoming servers, by name."""
    llm: bool = True
    """Ask the language model of [llm] where no command is meant."""
    model: Annotated[str, Field(max_length=200)] = ""
    """Model or alias for that; empty for llm.default_model."""
    keep_audio: bool = False
    """Keep the sound of utterances in the memory, for the operator to hear again."""
    keep_audio_days: Annotated[float, Field(gt=0, le=365)] = 7.0
    """Then it is gone."""
    tell_words: bool = False
    """Events of utterances, which go to Kafka, carry the words; without it they carry times and outcomes only."""

    @model_validator(mode="after")
    def _named(self) -> VoiceSettings:
        for field in ("stt", "tts", "wake"):
            for name in getattr(self, field):
                if name == "local":
                    continue
                if name not in self.services:
                    raise forms.SettingError(
                        f"{field} names {name}, and there is no such service", f"add [voice.services.{name}]."
                    )
                if field not in self.services[name].kinds:
                    told = f'add "{field}" to voice.services.{name}.kinds.'
                    raise forms.SettingError(f"{field} names {name}, which is not asked for that", told)
        if "local" in self.services:
            raise forms.SettingError("local is this machine, and no service", "give the service another name.")
        return self
