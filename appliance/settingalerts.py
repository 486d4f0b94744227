"""Settings of alerts: the rules, the channels that carry them out of the house, who is told what, and when not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from appliance.core.model import Severity
from appliance.settingforms import SettingError
from appliance.settinggroups import Group, Port

MATCHER = re.compile(r"\s*([a-z_]{1,32})\s*(=~|!~|!=|=)\s*(.{0,200})")
LABELS = ("alertname", "severity", "node", "subject", "device")
"""What every alert can be told apart by."""
CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def check_address(text: str) -> str:
    """An address of HTTP without a password in it, or none. Raises SettingError."""
    try:
        parts = urlsplit(text)
        bad = bool(text) and (parts.scheme not in {"http", "https"} or not parts.hostname)
        _ = parts.port
    except ValueError:
        bad = True
    if bad:
        raise SettingError("this is no http or https address", 'write it such as "https://alerts.example.org/hook".')
    if text and (parts.username or parts.password):
        told = "there is a password in this address, and settings are no place for secrets"
        raise SettingError(told, "take it out; write it into data/secrets/NAME and set secret = NAME.")
    return text


def split_matcher(text: str) -> tuple[str, str, str]:
    """(label, operator, value) of a matcher such as `node=nas`. Raises SettingError."""
    found = MATCHER.fullmatch(text)
    if found is None or found[1] not in LABELS:
        how = f"write LABEL=VALUE, LABEL!=VALUE, LABEL=~REGEX or LABEL!~REGEX; labels are {', '.join(LABELS)}."
        raise SettingError(f"{text!r} is no matcher", how)
    label, operator, value = found[1], found[2], found[3].strip().removeprefix('"').removesuffix('"')
    if "~" in operator:
        try:
            re.compile(value)
        except re.error as error:
            raise SettingError(f"{value!r} is no regular expression: {error}", "mend it.") from None
    return label, operator, value


def check_matcher(text: str) -> str:
    """A matcher as it was written. Raises SettingError."""
    split_matcher(text)
    return text


def check_time(text: str) -> str:
    """HH:MM. Raises SettingError."""
    if CLOCK.fullmatch(text) is None:
        raise SettingError(f"{text!r} is no time of day", 'write it such as "22:00".')
    return text


def check_mailbox(text: str) -> str:
    """An address without a name (RFC 5322, section 3.4.1). Raises SettingError."""
    from email.errors import MessageError
    from email.headerregistry import Address

    try:
        found = Address(addr_spec=text.strip())
    except (MessageError, ValueError, IndexError):
        found = Address()
    if not found.domain or not found.username:
        raise SettingError(f"{text!r} is no mail address", 'write it such as "ada@example.org".')
    return text


def check_zone(text: str) -> str:
    """A name of the time zone database, or none for this machine's own. Raises SettingError."""
    import zoneinfo

    if text and not (text in zoneinfo.available_timezones() or text == "UTC"):
        told = f"no time zone is called {text!r} on this machine"
        raise SettingError(told, 'write it such as "Europe/Berlin" (where that is unknown too: apt install tzdata).')
    return text


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Secret = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")]
Line = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
Time = Annotated[str, AfterValidator(check_time)]
NEEDS = {
    "webhook": ("url",), "ntfy": ("url", "topic"), "http": ("url", "body"), "email": ("host", "sender", "to"), "speech": (),
}  # fmt: skip
"""What a channel of each kind cannot be without."""


class RuleSettings(Group):
    """Changes to one alert rule; what is not given keeps the rule's default."""

    enabled: bool = True
    """Off: the rule is not evaluated."""
    threshold: float | None = None
    """Limit, in the rule's unit."""
    for_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long the limit must be passed before the alert fires."""
    cooldown_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long after it resolved the alert stays quiet."""
    severity: Severity | None = None
    """info, warning or critical."""


class AlertChannel(Group):
    """One way to tell somebody, such as [alerts.channels.phone]."""

    kind: Literal["webhook", "ntfy", "email", "http", "speech"]
    """webhook: as Alertmanager sends it; http: a request by templates (Telegram and the like); speech: said aloud here."""
    enabled: bool = True
    """Off: nothing goes out by it; what waits for it goes on waiting."""
    url: Annotated[str, Field(max_length=1000)] = ""
    """Where to (webhook, ntfy without the topic, http); of kind http it may be a template."""
    secret: Secret = ""
    """Name of the secret (data/secrets/NAME): bearer token, password of username, or what templates call secret."""
    username: Line = ""
    """User whose password the secret is (webhook, ntfy: HTTP basic; email: login)."""
    signing_secret: Secret = ""
    """Name of the secret that signs requests of kind webhook (HMAC-SHA-256, as standardwebhooks.com has it)."""
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")], Line] = Field({}, max_length=32)
    """Further headers of HTTP; of kind http they are templates."""
    ca_file: Path | None = None
    """Certificates (PEM) that are trusted; the system's where it is not set."""
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = ""
    """Topic of ntfy."""
    tags: Annotated[tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]{1,32}$")], ...], Field(max_length=8)] = ()
    """Further tags of ntfy."""
    click: Annotated[str, Field(max_length=300), AfterValidator(check_address)] = ""
    """What ntfy opens when its message is touched; empty: alerts.external_url."""
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{0,253}$")] = ""
    """Mail server."""
    port: Port | None = None
    """Its port; 465 with tls, else 587 (25 without TLS)."""
    tls: Literal["starttls", "tls", "no"] = "starttls"
    """How mail is encrypted; no: only to this machine itself, or without a login."""
    sender: Line = ""
    """Address that mail comes from."""
    to: Annotated[tuple[Annotated[Line, AfterValidator(check_mailbox)], ...], Field(max_length=20)] = ()
    """Addresses that mail goes to."""
    method: Literal["POST", "PUT", "GET"] = "POST"
    """Of kind http."""
    body: Annotated[str, Field(max_length=16_384)] = ""
    """Template of the request's body (kind http)."""
    body_kind: Literal["json", "form", "text"] = "json"
    """How what templates insert is escaped, and what the body is said to be."""
    program: Literal["auto", "espeak-ng", "piper"] = "auto"
    """Who speaks; auto: piper where a voice is set, else espeak-ng."""
    voice: Line = ""
    """Voice: of espeak-ng such as "en"; of piper the path of its .onnx file."""
    device: Line = ""
    """ALSA device that speaks, such as "plughw:1,0"; empty for the default one."""
    resolved: bool = True
    """Tell too that an alert is over."""
    timeout_seconds: Annotated[float, Field(ge=1, le=120)] = 15.0
    """Longest wait for an answer."""
    per_hour: Annotated[int, Field(ge=1, le=3600)] = 60
    """Most messages in any hour; what comes beyond waits, and becomes one message for each group."""

    @model_validator(mode="after")
    def _fits(self) -> AlertChannel:
        for name in NEEDS[self.kind]:
            if not getattr(self, name):
                raise SettingError(f"a channel of kind {self.kind} needs {name}", "set it; docs/alerts.md has one of each.")
        if self.kind in {"webhook", "ntfy"}:
            check_address(self.url)
        if self.kind == "http":
            self._check_templates()
        if self.kind == "email" and self.tls == "no" and self.secret and self.host not in {"localhost", "127.0.0.1", "::1"}:
            raise SettingError("the password would cross the network unencrypted", 'set tls = "starttls" or "tls".')
        if self.kind == "email" and bool(self.username) != bool(self.secret):
            raise SettingError("a login needs both username and secret", "set both, or none.")
        return self

    def _check_templates(self) -> None:
        from appliance.core.alerts.channels.templates import check
        from appliance.errors import ConfigError

        for where, text in (("url", self.url), ("body", self.body), *((f"headers.{k}", v) for k, v in self.headers.items())):
            try:
                check(where, text)
            except ConfigError as error:
                raise SettingError(error.message.rstrip("."), error.next_step) from None


class AlertRoute(Group):
    """Which alerts go to which channels, such as [alerts.routes.night]. Without any route all go to all channels."""

    channels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=20)]
    """Names of channels."""
    severity: Severity = Severity.info
    """Lowest severity that goes this way."""
    match: Annotated[tuple[Annotated[str, AfterValidator(check_matcher)], ...], Field(max_length=20)] = ()
    """All must hold, such as ["node=nas", "alertname=~node.*"]; labels are alertname, severity, node, subject, device."""
    group_by: Annotated[tuple[Literal["alertname", "severity", "node", "subject", "device"], ...], Field(max_length=5)] = (
        "alertname",
    )
    """Alerts that are the same in these labels go out in one message; empty: all in one."""
    group_wait_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Seconds that the first message of a group waits for others."""
    group_interval_seconds: Annotated[float, Field(ge=1, le=86400)] = 120.0
    """Least seconds from a message of a group to the next one with news."""
    repeat_seconds: Annotated[float, Field(ge=60, le=86400 * 30)] = 14_400.0
    """Seconds after which what goes on firing, and nobody acknowledged, is told again."""
    escalate_minutes: Annotated[float, Field(gt=0, le=10_080)] | None = None
    """Minutes without an acknowledgement after which escalate_to is told too; not set: never."""
    escalate_to: Annotated[tuple[Name, ...], Field(max_length=20)] = ()
    """Names of the further channels."""
    last: bool = False
    """What goes this way is not looked at by the routes below."""

    @model_validator(mode="after")
    def _fits(self) -> AlertRoute:
        if (self.escalate_minutes is None) != (not self.escalate_to):
            raise SettingError("escalate_minutes and escalate_to belong together", "set both, or none.")
        return self


class QuietHours(Group):
    """When only what is urgent is told, such as [alerts.quiet.night]. What still fires at their end is told then."""

    begin: Time
    """Time of day, such as "22:00"."""
    end: Time
    """Time of day; before begin: on the next day. The same as begin: the whole day."""
    days: Annotated[tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...], Field(max_length=7)] = ()
    """Days on which they begin; empty for all."""
    time_zone: Annotated[str, Field(max_length=64), AfterValidator(check_zone)] = ""
    """Such as "Europe/Berlin"; empty for this machine's own."""
    channels: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    """Channels that are quiet then; empty for all."""
    passes: Literal["info", "warning", "critical", "nothing"] = "critical"
    """Lowest severity that is told all the same."""


class AlertSettings(Group):
    """Alert rules by name, such as [alerts.rules.cpu]; and who is told."""

    rules: dict[str, RuleSettings] = Field({})
    """Changes by rule name."""
    channels: dict[Name, AlertChannel] = Field({}, max_length=50)
    """By name; without any, alerts are on the consoles only."""
    routes: dict[Name, AlertRoute] = Field({}, max_length=100)
    """By name, in their order."""
    quiet: dict[Name, QuietHours] = Field({}, max_length=50)
    """By name."""
    external_url: Annotated[str, Field(max_length=300), AfterValidator(check_address)] = ""
    """Where people look at this appliance; messages carry it."""
    give_up_hours: Annotated[float, Field(gt=0, le=720)] = 24.0
    """Hours after which a message that cannot be delivered is given up."""
    deliveries_keep: Annotated[int, Field(ge=10, le=100_000)] = 2000
    """Records of deliveries that are kept."""

    @model_validator(mode="after")
    def _known(self) -> AlertSettings:
        named = [(f"routes.{name}", (*route.channels, *route.escalate_to)) for name, route in self.routes.items()]
        named += [(f"quiet.{name}", hours.channels) for name, hours in self.quiet.items()]
        for where, names in named:
            for name in names:
                if name not in self.channels:
                    known = ", ".join(self.channels)
                    hint = f"the channels are: {known}." if known else f"describe it under [alerts.channels.{name}]."
                    raise SettingError(f"{where} names the channel {name!r}, which is not set", hint)
        return self
