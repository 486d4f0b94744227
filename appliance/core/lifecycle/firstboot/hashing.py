"""Passwords as the system keeps them: hashes for logins (crypt(5), by libxcrypt), keys for Wi-Fi."""

from __future__ import annotations

import ctypes
import hashlib
import os

from appliance.errors import StoreError

PREFIXES = (b"$y$", b"$6$")
"""yescrypt, else SHA-512."""
SIZE = 32768
"""Bytes of struct crypt_data (crypt(3)); libxcrypt says it stays."""
PASSES = 4096
"""Of WPA (IEEE 802.11, annex J.4)."""


def login_hash(password: str) -> str:
    """The hash that login(1) and sshd know; blocks for some 100 ms. Raises StoreError where the system has no libcrypt."""
    library = _library()
    for prefix in PREFIXES:
        setting = ctypes.create_string_buffer(192)
        salt = os.urandom(16)
        if library.crypt_gensalt_rn(prefix, 0, salt, len(salt), setting, len(setting)):
            return _crypt(library, password, setting.value)
    raise StoreError("libcrypt knows neither yescrypt nor SHA-512.", "install libcrypt1 of Debian 12 or newer.")


def fits(password: str, digest: str) -> bool:
    """Whether this is the password of a hash. Raises StoreError."""
    return _crypt(_library(), password, digest.encode()) == digest


def _crypt(library: ctypes.CDLL, password: str, setting: bytes) -> str:
    data = ctypes.create_string_buffer(SIZE)
    found: bytes | None = library.crypt_rn(password.encode(), setting, data, SIZE)
    if not found:
        raise StoreError("libcrypt could not hash the password.", "choose another one.")
    return found.decode()


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libcrypt.so.1")
        library.crypt_rn.restype = ctypes.c_char_p
        library.crypt_gensalt_rn.restype = ctypes.c_char_p
    except (OSError, AttributeError) as error:
        raise StoreError(f"The system has no libcrypt: {error}.", "sudo apt-get install libcrypt1") from error
    return library


def wifi_key(ssid: str, password: str) -> str:
    """The key of a WPA2 network, as wpa_passphrase(8) derives it; what is one already stays."""
    if len(password) == 64:
        return password.lower()
    return hashlib.pbkdf2_hmac("sha1", password.encode(), ssid.encode(), PASSES, 32).hex()
