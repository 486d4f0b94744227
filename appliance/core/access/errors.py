"""Errors of access, below appliance.errors.

ApplianceError ← TooManyError, AcmeError; AuthError ← SecondFactorError, ReusedTokenError;
StoreError ← SecretAwayError, SecretGoneError.
"""

from __future__ import annotations

from appliance.errors import ApplianceError, AuthError, StoreError


class SecondFactorError(AuthError):
    """The password is right; the account has a second factor, and no code came with it."""

    code = "second_factor"


class ReusedTokenError(AuthError):
    """A refresh token came a second time, so somebody copied it; its session has ended.

    Args:
        session_id: Of that session.
    """

    def __init__(self, session_id: str) -> None:
        super().__init__("This refresh token was used before; its session has ended for everybody.", "log in.")
        self.session_id = session_id


class AcmeError(ApplianceError):
    """A public authority signed no certificate."""

    code = "acme"


class SecretAwayError(StoreError):
    """A secret that lies elsewhere cannot be had now.

    Args:
        whole: Nothing of where it lies can be had.
    """

    def __init__(self, message: str, next_step: str = "", *, whole: bool = False) -> None:
        super().__init__(message, next_step)
        self.whole = whole


class SecretGoneError(StoreError):
    """A secret is not there any more where it lay: its last good value is none."""


class TooManyError(ApplianceError):
    """Too many requests, or failed logins.

    Args:
        retry_after: Seconds after which it is worth trying again.
    """

    code = "too_many"

    def __init__(self, message: str, next_step: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, next_step)
        self.retry_after = retry_after
