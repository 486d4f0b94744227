"""A picture that comes with a request: as the body itself, or as the one file of a form (RFC 7578)."""

from __future__ import annotations

from typing import Any, NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from appliance.api.problems import RequestError
from appliance.core.printable import printable

FORM = "multipart/form-data"
JSON = frozenset({"", "application/json", "application/x-www-form-urlencoded"})
FIELDS, FIELD = 10, 4096
"""Most fields of a form beside the file, and bytes of one."""
IN_MEMORY = 256 * 2**20
"""Bytes of a form's file that are never put on the disk: the gate bounds what comes."""


class Came(NamedTuple):
    """A picture.

    Attributes:
        name: What the client calls it.
        fields: The form's other fields.
    """

    data: bytes
    name: str
    fields: dict[str, Any]


def kind_of(request: Request) -> str:
    """The body's media type, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def brings_one(request: Request) -> bool:
    """Whether the body is a picture, or a form with one, and not the JSON of an action."""
    kind = kind_of(request)
    return kind not in JSON and not kind.endswith("+json")


async def picture_of(request: Request) -> Came:
    """The picture. Raises RequestError."""
    came = await _from_form(request) if kind_of(request) == FORM else Came(await request.body(), "upload", {})
    if not came.data:
        raise RequestError("body", "No picture came with the request.", "send it as the body, or as the one file of a form.")
    return came


async def _from_form(request: Request) -> Came:
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=FIELDS, max_part_size=FIELD)
    parser.spool_max_size = IN_MEMORY
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        told = getattr(error, "message", "") or str(error)
        raise RequestError("body", f"The form is wrong: {told}", "send one file, and few fields.") from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        fields = {name: value for name, value in form.multi_items() if not isinstance(value, UploadFile)}
        if len(files) != 1:
            raise RequestError("body", "The form has no file.", "send one, with its name.")
        name = (files[0].filename or "").replace("\\", "/").rpartition("/")[2][:255]
        return Came(await files[0].read(), printable(name)[:255] or "upload", fields)
    finally:
        await form.close()
