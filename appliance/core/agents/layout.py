"""Where an agent lies on its machine. Nothing of it is anywhere else, so that a removal leaves nothing."""

from __future__ import annotations

import re

NAME = "prime-spark-agent"
UNIT = f"{NAME}.service"
HOME = f"/opt/{NAME}"
"""versions/VERSION-HASH, the link `current` to one of them, and the mark."""
MARK = f"{HOME}/.prime-spark"
"""Says that the folder is ours; a folder without it is somebody else's."""
CONFIG = f"/etc/{NAME}"
"""config.toml, and secrets/ that only root reads."""
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
STATE = f"/var/lib/{NAME}"
"""Its data; systemd makes it, and lets the agent write there."""
FILES = f"{STATE}/files"
"""Where the task type file_transfer puts files unless other folders are set."""
RUN = f"/run/{NAME}"
LOCK = f"/run/{NAME}.lock"
"""Held by whoever installs or removes."""
CREDENTIALS = f"/run/credentials/{UNIT}"
"""Where systemd shows the secrets to the agent, and to nobody else (systemd.exec(5), LoadCredential=)."""
STAGING = f"/var/tmp/{NAME}"  # noqa: S108 a folder of mode 0700 with a random end is made of it
"""What is sent comes here first, as the user who logs in."""
HEAD = "# Written by Prime Spark (agent install), which replaces it."
"""First line of the unit's file: a file without it is somebody else's."""
RELEASE = re.compile(r"(?P<version>[0-9][0-9A-Za-z.+!]{0,60})-(?P<hash>[0-9a-f]{4,64})")


def version_of(release: str) -> str:
    """The version in the name of a release; empty where it is none."""
    found = RELEASE.fullmatch(release)
    return found["version"] if found else ""
