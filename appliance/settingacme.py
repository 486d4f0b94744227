"""Settings of a certificate by a public authority (ACME, RFC 8555)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from appliance.settingforms import SettingError
from appliance.settinggroups import Group

HOST = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$"


def check_directory(text: str) -> str:
    """https://HOST/PATH. Raises SettingError."""
    parts = urlsplit(text)
    if text and (parts.scheme != "https" or not parts.hostname or parts.username is not None):
        raise SettingError(
            "this is no directory of an ACME authority", 'write one such as "https://acme.example.org/directory".'
        )
    return text


class AcmeSettings(Group):
    """A certificate by a public authority (ACME, RFC 8555), proven on api.redirect_port, which must be its port 80."""

    directory: Annotated[str, AfterValidator(check_directory)] = ""
    """Address of the authority's directory; empty for none."""
    names: Annotated[tuple[Annotated[str, Field(pattern=HOST, max_length=253)], ...], Field(max_length=50)] = ()
    """Host names that lead here from the internet, such as ["spark.example.org"]; whoever asks for one sees the certificate."""
    email: Annotated[str, Field(pattern=r"^([^@\s,\x00-\x1f]+@[^@\s,\x00-\x1f]+)?$", max_length=254)] = ""
    """Where the authority writes to; may be empty."""
    agree_terms: bool = False
    """You agree to the terms of the authority; nothing is asked of it before."""
    ca_file: Path | None = None
    """Certificates by which the authority's own server is trusted; the usual ones where it is not set."""
    key_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]*$", max_length=200)] = ""
    """Key id of an account that is bound to one elsewhere; its key (base64url) is the secret acme.eab_key."""

    @model_validator(mode="after")
    def _fits(self) -> AcmeSettings:
        if self.directory and not self.names:
            raise SettingError("a certificate needs names", "set acme.names.")
        if self.directory and not self.agree_terms:
            raise SettingError("the authority asks for your agreement to its terms", "read them, and set acme.agree_terms.")
        return self
