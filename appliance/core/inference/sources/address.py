"""Addresses: what kind of source one names; URLs without their passwords, which lie with the secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

from appliance.core.inference.sources.model import Kind

SCHEMES = ("rtsp", "rtsps", "http", "https")
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
DEVICE = re.compile(r"/dev/(video\d+|v4l/by-(id|path)/[^/]+)")
PI = re.compile(r"picamera(:\d)?")
HOLE = "{password}"
"""In a URL: where the secret is put when it is opened."""
TELLING = re.compile(r"(?i)pass|pwd|secret|token|apikey|api_key|auth|sig")
"""Names of a query's parameters whose value nobody should see."""


class AddressError(ValueError):
    """An address that cannot work; it is not repeated in the message, for it may hold a password."""


def kind_of(address: str) -> Kind:
    """What an address names; looks at the disk where it is a path."""
    if PI.fullmatch(address):
        return Kind.picamera
    if DEVICE.fullmatch(address):
        return Kind.v4l2
    if "://" in address:
        return Kind.stream
    path = Path(address)
    if path.suffix.lower() in PICTURES:
        return Kind.picture
    return Kind.folder if path.is_dir() else Kind.video


def check(kind: Kind, address: str) -> str:
    """The address as it is kept. Raises AddressError."""
    if not address.strip() or not address.isprintable():
        raise AddressError("an address is one line of printable text; give a URL, a path, a device or picamera.")
    if kind is Kind.stream:
        return check_url(address)
    if kind is Kind.picamera:
        if not PI.fullmatch(address):
            raise AddressError("a Pi camera is picamera, or picamera:1 for the second one.")
        return address
    if kind is Kind.v4l2 and not DEVICE.fullmatch(address):
        raise AddressError(
            "a camera of the kernel is /dev/videoN or /dev/v4l/by-id/…; list them with `prime-spark source cameras`."
        )
    if "://" in address:
        raise AddressError(f"a source of the kind {kind.value} has a path; a URL is of the kind stream.")
    if not Path(address).is_absolute():
        raise AddressError("give the whole path, from / on.")
    return os.path.normpath(address)


def check_url(url: str) -> str:
    """A URL without a password. Raises AddressError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressError(f"this is no URL ({_plain(error)}); write it as rtsp://USER@HOST:554/PATH.") from None
    if parts.scheme.lower() not in SCHEMES:
        raise AddressError(f"the URL begins with none of {', '.join(f'{name}://' for name in SCHEMES)}.")
    if not parts.hostname or port == 0:
        raise AddressError("the URL names no host and port that can be; write it as rtsp://USER@HOST:554/PATH.")
    if parts.password is not None and parts.password != HOLE:
        raise AddressError(
            "the URL has a password in it, which would be seen; leave it out, and give it as --password (it is asked for, "
            "and kept with the secrets)."
        )
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if TELLING.search(name) and value and value != HOLE:
            raise AddressError(
                f"the URL's parameter {name[:30]!r} looks like a secret, which would be seen; write {HOLE} in its place, and "
                "give it as --password."
            )
    return url


def _plain(error: ValueError) -> str:
    """What the library says, without what it says it of."""
    return str(error).partition(":")[0][:60]


def wants_secret(url: str) -> bool:
    """Whether the URL has a place for a password that must be filled."""
    return HOLE in url


def filled(url: str, secret: str) -> str:
    """The URL to open, with its password. For the library's eyes alone."""
    if HOLE in url:
        return url.replace(HOLE, quote(secret, safe=""))
    if not secret:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        user = ""
    return urlunsplit(SplitResult(parts.scheme, f"{user}:{quote(secret, safe='')}@{host}", *parts[2:]))
