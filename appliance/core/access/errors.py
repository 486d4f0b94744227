"""Errors of access, below appliance.errors: ApplianceError ← TooManyError; AuthError ← SecondFactorError."""

from __future__ import annotations

from appliance.errors import ApplianceError, AuthError


class SecondFactorError(AuthError):
    """The password is right; the account has a second factor, and no code came with it."""

    code = "second_factor"


class TooManyError(ApplianceError):
    """Too many requests, or failed logins.

    Args:
        retry_after: Seconds after which it is worth trying again.
    """

    code = "too_many"

    def __init__(self, message: str, next_step: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, next_step)
        self.retry_after = retry_after
