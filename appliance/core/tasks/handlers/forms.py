"""Payloads: read strictly, and told with the next step where they do not fit."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from appliance.errors import InvalidArgumentsError

T = TypeVar("T", bound="Form")


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of payloads."""


def read(kind: type[T], payload: Any, task: str) -> T:
    """The payload as this form. Raises InvalidArgumentsError."""
    try:
        return msgspec.convert(payload if payload is not None else {}, kind, strict=True)
    except msgspec.ValidationError as error:
        fields = ", ".join(each.encode_name for each in msgspec.structs.fields(kind))
        raise InvalidArgumentsError(f"The payload does not fit {task}: {error}.", f"its fields are: {fields}.") from error
