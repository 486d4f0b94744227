"""Settings of the language models: endpoints, aliases, routing, caps."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from appliance import settingforms as forms
from appliance.settinggroups import Group, env


def check_url(text: str) -> str:
    """An address of HTTP without a password in it, or none. Raises SettingError."""
    try:
        parts = urlsplit(text)
        bad = text and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment)
        _ = parts.port
    except ValueError:
        bad = True
    if bad:
        raise forms.SettingError("this is no http or https address", 'write it such as "http://192.0.2.14:11434".')
    if text and (parts.username or parts.password):
        told = "there is a password in this address, and settings are no place for secrets"
        raise forms.SettingError(told, "take it out; write the key into data/secrets/NAME and set secret = NAME.")
    return text.rstrip("/")


Url = Annotated[str, Field(max_length=300), AfterValidator(check_url)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Model = Annotated[str, Field(max_length=200)]


def outside(url: str) -> bool:
    """The address is a number that no house has."""
    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_global
    except ValueError:
        return False


class LlmEndpoint(Group):
    """One server of language models, such as [llm.endpoints.spark-agent]."""

    url: Url = ""
    """Where it is; for an OpenAI-compatible server with or without /v1."""
    kind: Literal["ollama", "openai", "gguf"] = "ollama"
    """What it speaks; llama-server, vLLM and LM Studio speak as OpenAI does. gguf: no server, but files of a folder."""
    folder: Annotated[str, Field(max_length=4000)] = ""
    """Where the *.gguf files are, of an endpoint of kind gguf; one is loaded when it is asked for."""
    program: Annotated[str, Field(max_length=4000)] = ""
    """What runs them: llama-server, or a Python that has llama-cpp-python; empty: whichever is installed."""
    place: Literal["edge", "agent", "cloud"] = "edge"
    """edge and agent are in the house; what goes to cloud leaves it, and is in the ledger."""
    secret: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")] = ""
    """Name of the secret that is its key (data/secrets/NAME); empty for none."""
    models: tuple[Model, ...] = ()
    """Models that it has, where it does not tell itself."""
    context: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Tokens of context, where it does not tell itself; 0 where that is not known."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 4
    """Requests that it does at a time; others wait."""
    queue: Annotated[int, Field(ge=0, le=10_000)] = 32
    """Most requests that wait for it; with more it counts as full."""
    price_in: Annotated[float, Field(ge=0)] | None = None
    """Price of a million tokens that it reads."""
    price_out: Annotated[float, Field(ge=0)] | None = None
    """Price of a million tokens that it writes."""

    @model_validator(mode="after")
    def _fits(self) -> LlmEndpoint:
        if self.kind == "gguf":
            if not self.folder.startswith("/") or self.url or self.place != "edge":
                told = "an endpoint of kind gguf is a folder of this machine"
                raise forms.SettingError(told, 'set folder = "/srv/models", no url, and place = "edge".')
        elif not self.url:
            raise forms.SettingError("an endpoint needs its url", 'set url = "http://192.0.2.14:11434".')
        elif self.folder or self.program:
            raise forms.SettingError("only an endpoint of kind gguf has a folder and a program", 'set kind = "gguf".')
        if self.place != "cloud" and outside(self.url):
            raise forms.SettingError("this address is not in the house", 'set place = "cloud".')
        return self


class LlmAlias(Group):
    """The models behind a name such as chat, one for each place; empty: that place has none."""

    edge: Model = ""
    """At the edge."""
    agent: Model = ""
    """On the Spark Agent."""
    cloud: Model = ""
    """In the cloud."""


class LlmSettings(Group):
    """Language models. Without an endpoint nothing is loaded and nobody is contacted."""

    edge_url: Url = Field("", json_schema_extra=env("OLLAMA_EDGE_URL"))
    """Ollama at the edge; short for an endpoint called edge. Empty for none."""
    cloud_url: Url = Field("", json_schema_extra=env("OLLAMA_CLOUD_URL"))
    """Ollama in the cloud; short for an endpoint called cloud. Empty for none."""
    endpoints: dict[Name, LlmEndpoint] = Field({})
    """Further endpoints, by name."""
    default_model: Model = Field("llama3.2:latest", json_schema_extra=env("OLLAMA_DEFAULT_MODEL"))
    """Model, or alias, of a request that names none."""
    aliases: dict[Name, LlmAlias] = Field({})
    """Names that stand for a model in each place, such as [llm.aliases.chat]: chat, tools, vision, embed."""
    strategy: Literal["edge-first", "cloud-first", "balanced", "edge-only"] = Field(
        "edge-first", json_schema_extra=env("ROUTING_STRATEGY")
    )
    """Who is asked first; the power may narrow it."""
    cloud_fallback: bool = Field(True, json_schema_extra=env("CLOUD_FALLBACK_ENABLED"))
    """Under edge-first: ask the cloud where the edge does not answer."""
    edge_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(5.0, json_schema_extra=env("EDGE_TIMEOUT_SECONDS"))
    """Seconds for the first token of an endpoint in the house, while another one could be asked."""
    cloud_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 20.0
    """The same for one in the cloud."""
    last_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds for the first token where no other one is left: a large model is loaded meanwhile."""
    stall_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Longest silence between two tokens."""
    max_retries: Annotated[int, Field(ge=0, le=20)] = Field(3, json_schema_extra=env("MAX_RETRIES"))
    """Most further tries of a request, of the same or other endpoints, before its first token."""
    retry_percent: Annotated[float, Field(ge=0, le=100)] = 20.0
    """Second tries of the same endpoint, in percent of the requests, so that a fault does not multiply the load."""
    hedge: bool = False
    """Ask the next endpoint beside one that is slow with its first token, and take who is first; else it instead."""
    probe_seconds: Annotated[float, Field(ge=1, le=86400)] = Field(30.0, json_schema_extra=env("HEALTH_CHECK_INTERVAL"))
    """Seconds between two probes of an endpoint."""
    request_mib: Annotated[float, Field(gt=0, le=256)] = 8.0
    """Largest request, MiB, images included."""
    answer_mib: Annotated[float, Field(gt=0, le=256)] = 8.0
    """Largest answer, MiB; a longer one is cut off as failed."""
    cache_seconds: Annotated[float, Field(ge=0, le=86400 * 30)] = 3600.0
    """How long answers of temperature 0 (or where asked for) are kept in the memory; 0 keeps none."""
    cloud_bytes_per_day: Annotated[int, Field(ge=0)] | None = None
    """Most bytes of requests that leave the house in 24 hours; not set: no cap."""
    cloud_tokens_per_day: Annotated[int, Field(ge=0)] | None = None
    """Most tokens, read and written, in the cloud in 24 hours."""
    cloud_cost_per_day: Annotated[float, Field(ge=0)] | None = None
    """Most that the cloud may cost in 24 hours, in the currency of the prices."""
    ledger_keep: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000
    """Entries of the ledger that are kept; those of the last 24 hours always."""

    @model_validator(mode="after")
    def _names(self) -> LlmSettings:
        if self.edge_url and outside(self.edge_url):
            raise forms.SettingError("edge_url is not in the house", "set it as cloud_url (OLLAMA_CLOUD_URL).")
        for name, url in (("edge", self.edge_url), ("cloud", self.cloud_url)):
            if url and name in self.endpoints:
                told = f"{name}_url and endpoints.{name} are both set"
                raise forms.SettingError(told, f"keep one of them; {name}_url is short for an endpoint called {name}.")
        return self

    def all_endpoints(self) -> dict[str, LlmEndpoint]:
        """By name, those of the short forms with them."""
        short = {"edge": self.edge_url, "cloud": self.cloud_url}
        made = {name: LlmEndpoint(url=url, place=name) for name, url in short.items() if url}
        return {**made, **self.endpoints}
