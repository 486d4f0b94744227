"""Signed tokens of sessions: JSON Web Tokens (RFC 7519) with HMAC-SHA-256, and no other algorithm."""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Callable
from typing import Literal

import msgspec

from appliance.errors import AuthError, ConfigError

AUDIENCE = "prime-spark-api"
LONGEST = 2048
"""Characters; a longer token is none of ours."""
SHORTEST_KEY, FEWEST = 32, 10
"""Bytes of a key (RFC 7518, section 3.2), and different ones among them."""
KNOWN = re.compile(
    r"change[-_ ]?(me|this|it|in[-_ ]?prod)|your[-_ ]?(jwt|super|secret|256)|super[-_ ]?secret|default[-_ ]?(jwt|secret|key)"
    r"|(jwt|my)[-_ ]?secret[-_ ]?key|example|insecure|password|0123456789|abcdefgh",
    re.IGNORECASE,
)
"""What stands in keys that were copied from somewhere."""
Kind = Literal["access", "refresh"]


class Claims(msgspec.Struct, frozen=True):
    """What a token says, once its signature was found right. Times are seconds since the epoch."""

    user: str
    session_id: str
    generation: int
    issued: float
    expires: float


def check_key(key: bytes) -> bytes:
    """The key, where it can be one.

    Raises:
        ConfigError: It is short, or one that others know.
    """
    if len(key) < SHORTEST_KEY or len(set(key)) < FEWEST or KNOWN.search(key.decode("latin-1")):
        raise ConfigError(
            f"JWT_SECRET is no secret: it is shorter than {SHORTEST_KEY} bytes, or made of what stands in examples.",
            "unset it, and the appliance makes one; or give the output of `openssl rand -base64 48`.",
        )
    return key


class Signer:
    """Signs and reads tokens; whether their time has come or gone is told by who keeps the sessions.

    Args:
        key: Gives what they are signed with, when it is first needed.
        issuer: Name of this appliance.
    """

    def __init__(self, key: Callable[[], bytes], issuer: str) -> None:
        self._source = key
        self._issuer = issuer

    def check(self) -> None:
        """Have the key looked at. Raises ConfigError: it is no secret; StoreError: it cannot be read."""
        if not self._key:
            raise ConfigError("There is no key for tokens.", "unset JWT_SECRET, and the appliance makes one.")

    @functools.cached_property
    def _key(self) -> bytes:
        return check_key(self._source())

    def sign(self, kind: Kind, claims: Claims) -> str:
        """A token."""
        import jwt

        body = {
            "iss": self._issuer, "aud": AUDIENCE, "typ": kind, "sub": claims.user, "sid": claims.session_id,
            "gen": claims.generation, "iat": claims.issued, "exp": claims.expires, "jti": secrets.token_hex(8),
        }  # fmt: skip
        return jwt.encode(body, self._key, algorithm="HS256")

    def read(self, kind: Kind, token: str) -> Claims:
        """What a token says. Raises AuthError: it is none, or not ours, or of another kind."""
        import jwt

        if len(token) > LONGEST:
            raise AuthError("This is no token of this appliance.", "log in.")
        required = ["iss", "aud", "sub", "sid", "gen", "iat", "exp", "typ"]
        options = {"require": required, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            body = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=AUDIENCE,
                issuer=self._issuer,
                options=options,  # type: ignore[arg-type]
            )
            claims = Claims(str(body["sub"]), str(body["sid"]), int(body["gen"]), float(body["iat"]), float(body["exp"]))
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise AuthError("This is no token of this appliance.", "log in.") from error
        if body["typ"] != kind:
            raise AuthError(f"This is no {kind} token.", f"send the {kind} token that the login gave.")
        return claims
