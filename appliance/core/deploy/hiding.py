"""Specifications as they are shown to who may not deploy: names of the environment stay, its values do not."""

from __future__ import annotations

import logging
import tomllib

import msgspec

from appliance.core.deploy.model import Version

log = logging.getLogger(__name__)

HIDDEN = "(hidden)"
"""Stands for a value of the environment."""
WHOLE = "# not shown: the values of its environment cannot be told from the rest\n"
"""Stands for a specification in which the values are not found."""


def hidden(document: str) -> str:
    """A specification without the values of its environment, and without comments among them.

    Args:
        document: TOML.

    Returns:
        The same text with "(hidden)" for each value; `WHOLE` where that cannot be made sure.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        given = tomllib.loads(document).get("environment", {})
        if not given:
            return document
        wanted = dict.fromkeys(given, HIDDEN)
        parsed = tomlkit.parse(document)
        parsed["environment"] = wanted
        text = tomlkit.dumps(parsed)
        if tomllib.loads(text).get("environment") == wanted:
            return text
    except (tomllib.TOMLDecodeError, TOMLKitError, TypeError, AttributeError, ValueError) as error:
        log.warning("a specification is not shown: %s", type(error).__name__)
    return WHOLE


def without_values(version: Version) -> Version:
    """A version as it is shown to who may not deploy."""
    return msgspec.structs.replace(version, document=hidden(version.document))


def turned(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Names of the environment whose values are others now, which a difference with hidden values does not show."""
    return sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
