"""What the text of an address, a size or a path in the settings must look like for it to work at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]")
BARE_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.%a-z]*|/.*")
BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
REDIS = frozenset({"redis", "rediss", "unix"})
POSTGRES = frozenset({"postgres", "postgresql"})
UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
LEAST_MEMORY, MOST_MEMORY = 1 << 20, 1 << 40
"""Bytes; below it Redis has no room for itself, above it no machine has it."""


class SettingError(ValueError):
    """A value that cannot work; it is not repeated in the message, for it may hold a secret.

    Args:
        message: What is wrong with it.
        next_step: What to write instead.
    """

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


def _refuse(message: str, next_step: str) -> NoReturn:
    raise SettingError(message, next_step)


def endpoint(text: str) -> str:
    """HOST or HOST:PORT. Raises SettingError."""
    if text and not _is_endpoint(text):
        _refuse("this is no HOST or HOST:PORT", 'write host and port alone, such as "10.8.0.14:9000"; s3.secure speaks TLS.')
    return text


def _is_endpoint(text: str, *, port_needed: bool = False) -> bool:
    host, colon, port = text.rpartition(":") if re.search(r":[^\]]*$", text) else (text, "", "")
    if colon and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) <= 65535):
        return False
    return (bool(colon) or not port_needed) and HOST.fullmatch(host) is not None


def servers(text: str) -> str:
    """HOST:PORT, and more of them behind commas. Raises SettingError."""
    if text and not all(_is_endpoint(part.strip(), port_needed=True) for part in text.split(",")):
        _refuse(
            "this is no list of HOST:PORT",
            'write each broker as HOST:PORT, with commas between, such as "10.8.0.14:9092,10.8.0.15:9092"; '
            "the password is the secret kafka.password (KAFKA_PASSWORD).",
        )
    return text


def host(text: str) -> str:
    """A host's name or address, or the directory of its UNIX socket. Raises SettingError."""
    if text and BARE_HOST.fullmatch(text) is None:
        _refuse(
            "this is no name or address of a host",
            'write the host alone, such as "10.8.0.14"; port, user and database are settings of their own, and the password '
            "is the secret analytics.password (POSTGRES_PASSWORD).",
        )
    return text


def bucket(text: str) -> str:
    """The name of a bucket, as S3 has them. Raises SettingError."""
    if BUCKET.fullmatch(text) is None:
        _refuse("no bucket of S3 may have this name", "use 3 to 63 of a-z, 0-9, dot and dash; a letter or digit at both ends.")
    return text


def absolute(path: Path) -> Path:
    """A path from the root on. Raises SettingError."""
    if not path.is_absolute():
        _refuse("this path does not begin at /", 'write the whole path, such as "/mnt/nas".')
    return path


def memory_size(text: str) -> str:
    """A size that a machine can have; its form is checked before. Raises SettingError."""
    size = int(text[:-2]) * UNITS[text[-2:].lower()]
    if not LEAST_MEMORY <= size <= MOST_MEMORY:
        _refuse("no Redis can have this much memory, or this little", 'write a size from 1mb to 1024gb, such as "512mb".')
    return text


def redis_url(text: str) -> str:
    """The address of a Redis, without its password. Raises SettingError."""
    form = 'write redis://HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH, such as "redis://10.0.0.5:6379/0".'
    return _url(text, REDIS, "this is no redis:// address", form, "redis.password", "REDIS_PASSWORD")


def postgres_url(text: str) -> str:
    """The address of a database, without its password. Raises SettingError."""
    form = "Supabase shows it under Connect: postgresql://USER@HOST:PORT/DATABASE; its https address is another service."
    return _url(text, POSTGRES, "this is no postgresql:// address", form, "documents.password", "SUPABASE_KEY")


def _url(text: str, schemes: frozenset[str], fault: str, form: str, secret: str, variable: str) -> str:
    if not text:
        return text
    parts = _split(text, fault, form)
    if parts.password is not None or re.search(r"(^|&)(password|passwd)=", parts.query, re.IGNORECASE):
        _refuse(
            "there is a password in this address, and settings are no place for secrets",
            f"take it out; give it as {variable}, or write it into data/secrets/{secret} with mode 0600.",
        )
    if parts.scheme not in schemes or not (parts.path.strip("/") if parts.scheme == "unix" else parts.hostname):
        _refuse(fault, form)
    return text


def _split(text: str, fault: str, form: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        _refuse(fault, form)
    return parts


def ordered(low: float, high: float, low_name: str = "disk_low_percent", high_name: str = "disk_high_percent") -> None:
    """The mark that values leave down to lies below the one from which they leave. Raises SettingError."""
    if low >= high:
        _refuse(
            f"{low_name} ({low:g}) is not below {high_name} ({high:g})",
            f"set {low_name} below {high_name}, such as 85 and 95.",
        )


def time_zone(text: str) -> str:
    """A name of the time zone database. Raises SettingError."""
    try:
        if text:
            ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        _refuse("this is no time zone", 'write its name as the time zone database has it, such as "Europe/Berlin".')
    return text
