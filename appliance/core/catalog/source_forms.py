"""What an operator writes of a source, as its definition: addresses, corners, files."""

from __future__ import annotations

import base64
import binascii
import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
from pydantic_core import PydanticCustomError

from appliance.core.inference.sources import address as addresses
from appliance.core.inference.sources.definition import NAME, Definition, build
from appliance.core.inference.sources.model import Kind
from appliance.errors import InvalidArgumentsError

if TYPE_CHECKING:
    from appliance.core.catalog.sources import Adding

LEFT_OUT = {"name", "address", "kind", "stopped", "file", "password"}


def refusal(text: str) -> PydanticCustomError:
    """What a parameter's check says; without the words that pydantic puts before a ValueError's."""
    return PydanticCustomError("source", "{told}", {"told": text.removesuffix(".")})


def check_name(name: str) -> str:
    """A name that a source, a zone or a rule may have. Raises PydanticCustomError."""
    if not re.fullmatch(NAME, name):
        raise refusal(f"{name!r} is no name; it begins with a letter or digit, and has only lower case ones, digits, - and _")
    return name


def check_address(address: str | None) -> str | None:
    """The address, where it has no password; before anything of it is written down. Raises PydanticCustomError."""
    if address is not None and "://" in address:
        try:
            addresses.check_url(address)
        except addresses.AddressError as error:
            raise refusal(str(error)) from None
    return address


def document_in(file: str) -> dict[str, Any]:
    """The document of a file in Base64, with no password in it. Raises PydanticCustomError."""
    try:
        text = base64.b64decode(file, validate=True).decode()
        document = msgspec.json.decode(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (binascii.Error, UnicodeDecodeError, msgspec.DecodeError, tomllib.TOMLDecodeError):
        raise refusal("the file is neither TOML nor JSON; see docs/sources.md for one") from None
    if not isinstance(document, dict):
        raise refusal("the file has no source; see docs/sources.md for one")
    if unknown := set(document) - set(Definition.model_fields):
        raise refusal(f"the file has what no source has: {', '.join(sorted(unknown))[:100]}")
    if isinstance(address := document.get("address"), str):
        check_address(address)
    return document


def definition_of(form: Adding) -> Definition:
    """The definition; looks at the disk to see what a path is. Raises InvalidArgumentsError."""
    document = document_in(form.file) if form.file is not None else {}
    given = form.model_dump(mode="json", exclude=LEFT_OUT, exclude_none=True)
    address = form.address if form.address is not None else document.get("address")
    if not isinstance(address, str):
        raise InvalidArgumentsError("The file has no address.", "give address: a URL, a path, /dev/videoN or picamera.")
    kind = form.kind or document.get("kind") or addresses.kind_of(address)
    whole = {**document, **given, "name": form.name, "address": address, "kind": kind, "enabled": not form.stopped}
    whole.setdefault("drop", "latest" if Kind(kind).live else "wait")
    return build(whole)


def points_of(text: str) -> list[tuple[float, float]]:
    """Corners written as "x,y x,y x,y". Raises InvalidArgumentsError."""
    try:
        pairs = [tuple(float(number) for number in corner.split(",")) for corner in text.split()]
    except ValueError:
        pairs = []
    if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
        raise InvalidArgumentsError(
            "Those are no corners.", 'write three or more as shares of the frame, such as "0.1,0.2 0.9,0.2 0.9,0.8".'
        )
    return [(pair[0], pair[1]) for pair in pairs]
