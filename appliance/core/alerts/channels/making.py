"""Adapters, by the kind of channel. Their libraries are loaded here first, when there is a channel that needs them."""

from __future__ import annotations

import binascii

from appliance.core.alerts.channels.posting import Adapter
from appliance.core.secrets import Secrets
from appliance.errors import AbsentError, ConfigError
from appliance.settingalerts import AlertChannel


def make_adapter(wanted: AlertChannel, secrets: Secrets, device: str, external_url: str) -> Adapter:
    """A channel's way out.

    Args:
        wanted: Its settings.
        secrets: Where its secrets are.
        device: This machine's name.
        external_url: Where people look at this appliance.

    Raises:
        AbsentError: A secret, or a program, is not there.
        ConfigError: A template, an address or a key cannot be read.
        StoreError: The secret's file cannot be read, or can be by others.
    """
    secret, signing = _secret(secrets, wanted.secret), _secret(secrets, wanted.signing_secret)
    if wanted.ca_file is not None and not wanted.ca_file.is_file():
        raise ConfigError(f"ca_file {wanted.ca_file} is not there", "put it there, or take the setting out.")
    if wanted.kind == "webhook":
        from appliance.core.alerts.channels.webhook import Webhook

        try:
            return Webhook(wanted, secret, signing, external_url)
        except binascii.Error:
            told = f"the secret {wanted.signing_secret} begins with whsec_ and goes on as no base64"
            raise ConfigError(told, "write it as its maker shows it.") from None
    if wanted.kind == "ntfy":
        from appliance.core.alerts.channels.webhook import Ntfy

        return Ntfy(wanted, secret, external_url)
    if wanted.kind == "http":
        from appliance.core.alerts.channels.templates import Templated

        return Templated(wanted, secret, external_url)
    if wanted.kind == "email":
        from appliance.core.alerts.channels.mail import Mail

        return Mail(wanted, secret, device, external_url)
    from appliance.core.alerts.channels.speech import Speech

    return Speech(wanted)


def _secret(secrets: Secrets, name: str) -> str:
    if not name:
        return ""
    found = secrets.text(name)
    if not found:
        raise AbsentError(f"the secret {name} is not there", f"write it into data/secrets/{name} (mode 0600), and start again.")
    return found
