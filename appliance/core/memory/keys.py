"""Names of values: checked, and hashed into paths that stay the same from run to run and machine to machine."""

from __future__ import annotations

import hashlib
import re

from appliance.errors import InvalidArgumentsError

NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
LONGEST_KEY = 1024
"""Bytes of UTF-8."""
DEFAULT = "default"
AT_HOME = frozenset({"voice"})
"""Namespaces that no tier of the cloud takes: sound of the house."""
JOINERS = str.maketrans("", "", "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}")
"""What joins emoji, and keeps letters of Persian and others apart: no control characters, though not printed themselves."""


def check_namespace(namespace: str) -> str:
    """The namespace itself. Raises InvalidArgumentsError."""
    if not isinstance(namespace, str) or NAMESPACE.fullmatch(namespace) is None:
        raise InvalidArgumentsError(
            f"{str(namespace)[:70]!r} is no namespace.",
            "use 1 to 63 of a-z, 0-9, dot, dash, underscore; begin with a letter or digit.",
        )
    return namespace


def printable(text: str) -> bool:
    """Whether a text has nothing in it but what can be printed, and joiners between that; a lone surrogate cannot."""
    bare = text.translate(JOINERS)
    return bare.isprintable() and bool(bare)


def check_key(key: str) -> str:
    """The key itself: any text but control characters, and not of joiners alone. Raises InvalidArgumentsError."""
    if not isinstance(key, str) or not key:
        raise InvalidArgumentsError("The key is empty.", "give it at least one character.")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgumentsError("The key is not valid Unicode text.", "give it as UTF-8.") from error
    if size > LONGEST_KEY:
        raise InvalidArgumentsError(f"The key has {size} bytes; the limit is {LONGEST_KEY}.", "shorten or hash it.")
    if not printable(key):
        raise InvalidArgumentsError(
            "The key has a control or unprintable character in it.", "take NUL, newlines and the like out."
        )
    return key


def parse(text: str) -> tuple[str, str]:
    """(namespace, key) of "namespace:key"; without a colon the namespace is "default". Raises InvalidArgumentsError."""
    namespace, colon, key = text.partition(":")
    if not colon:
        namespace, key = DEFAULT, text
    return check_namespace(namespace), check_key(key)


def key_id(namespace: str, key: str) -> str:
    """BLAKE2b-128 of namespace, NUL, key: 32 hexadecimal digits, safe as a file name on every file system."""
    return hashlib.blake2b(f"{namespace}\0{key}".encode(), digest_size=16).hexdigest()


def relative_path(identifier: str) -> str:
    """Where a key's file lies below a tier's directory: two levels of 256 directories keep each of them small."""
    return f"{identifier[:2]}/{identifier[2:4]}/{identifier}"
