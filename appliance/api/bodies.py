"""JSON of strangers, read at a bounded price: reading holds the whole process, and what was read takes memory."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

from appliance.api.problems import RequestError

T = TypeVar("T")
MEMBERS = 250_000
"""Members of objects and lists, all together: well under half a second. Commas of texts count too."""


@overload
def read_json(body: bytes) -> Any: ...
@overload
def read_json(body: bytes, kind: type[T]) -> T: ...
def read_json(body: bytes, kind: Any = Any) -> Any:
    """A body as its values.

    Args:
        body: JSON.
        kind: What it must be.

    Raises:
        RequestError: It has too many members, or goes too deep.
        msgspec.DecodeError: It is no JSON, or of another kind.
    """
    if body.count(b",") > MEMBERS:
        raise RequestError("too_large", f"The JSON has more than {MEMBERS} members.", "send it in parts.")
    try:
        return msgspec.json.decode(body, type=kind)
    except RecursionError:
        raise RequestError("body", "The JSON is nested too deeply.", "send the object that /openapi.json describes.") from None
