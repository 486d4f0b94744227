"""Settings of the updates of the image: where they come from, when they are looked for, what makes one stay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from appliance import settingforms as forms
from appliance.settingbackup import check_cron
from appliance.settinggroups import Group

RELEASE_KEY = Path("/usr/share/prime-spark/release.pub")


def check_source(text: str) -> str:
    """A directory or a URL, or nothing. Raises SettingError."""
    step = 'write a directory, such as "/mnt/nas/releases", or a URL, such as "https://updates.example.net/prime-spark".'
    if not text:
        return text
    if text.startswith("/"):
        forms.absolute(Path(text))
        return text.rstrip("/") or "/"
    try:
        parts = urlsplit(text)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
        named = parts.username is not None or parts.password is not None
    except ValueError:
        fits = named = False
    if not fits or named:
        raise forms.SettingError("this is no directory and no URL without a user", step)
    return text.rstrip("/")


def check_proxy(text: str) -> str:
    """An address of http or https without a login, or nothing. Raises SettingError."""
    try:
        parts = urlsplit(text)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
    except ValueError:
        fits = False
    if text and not fits:
        step = 'write one such as "http://proxy.example.net:3128"; a login belongs into https_proxy of the environment.'
        raise forms.SettingError("this is no address of a proxy without a login", step)
    return text


class UpdateSettings(Group):
    """Updates of the whole image, each one on trial until it was found healthy."""

    source: Annotated[str, AfterValidator(check_source)] = ""
    """Directory or URL with SHA256SUMS and its signature; empty: bundles are installed by hand only."""
    key: Annotated[Path, AfterValidator(forms.absolute)] = RELEASE_KEY
    """File with the public key (minisign) that the list of a source must be signed with."""
    proxy: Annotated[str, AfterValidator(check_proxy)] = ""
    """Address of a proxy on the way to the source; empty: as the environment says."""
    certificates: Annotated[str, Field(pattern=r"^(/.{0,400})?$")] = ""
    """File with certificates that a source of https is trusted by, besides the system's; empty: the system's alone."""
    schedule: Annotated[str, AfterValidator(check_cron)] = "30 2 * * *"
    """When the source is looked at: minute, hour, day, month, weekday as cron has them; empty: by hand only."""
    zone: Annotated[str, AfterValidator(forms.time_zone)] = "UTC"
    """Time zone of the schedule and of the window."""
    automatic: Literal["tell", "install", "restart"] = "tell"
    """What is done with a newer release: tell of it, install it too, or also restart into it within the window."""
    window: Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$")] = "02:00-05:00"
    """When a restart may come by itself; it may span midnight."""
    backup_first: bool = True
    """Make a backup before an update is written, where a target for backups is configured."""
    allow_older: bool = False
    """Take a bundle that is older than what runs without being asked to."""
    health_seconds: Annotated[float, Field(ge=5, le=300)] = 60.0
    """Seconds that a new system must be well without a break before it is kept."""
    trial_minutes: Annotated[float, Field(ge=1, le=12)] = 10.0
    """Minutes after which a new system that was not well long enough is left for the former one."""
    limit_minutes: Annotated[float, Field(ge=5, le=240)] = 60.0
    """Longest time that writing an update may take."""

    @model_validator(mode="after")
    def _limits(self) -> UpdateSettings:
        if 60 * self.trial_minutes < 2 * self.health_seconds:
            told = f"a trial of {self.trial_minutes:g} min leaves no time to start and be well for {self.health_seconds:g} s"
            raise forms.SettingError(told, "make trial_minutes at least twice as long as health_seconds.")
        begin, _, end = self.window.partition("-")
        if begin == end:
            raise forms.SettingError(f"a window of {self.window} never opens", 'write two times, such as "02:00-05:00".')
        return self
