"""What a HEF (Hailo's executable format) says of itself, read without the vendor's library.

The layout is HailoRT's (hef_internal.hpp, hef.proto): a header in network byte order, then protocol buffers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ModelError

MAGIC = 0x01484546
COMMON = struct.Struct(">III")
"""Magic, version, bytes of the protocol buffers."""
DISTINCT = {0: 20, 1: 16, 2: 32, 3: 44}
"""Bytes of what follows in the header, by version; the structures are packed."""
ARCHITECTURES = {
    0: "HAILO8", 1: "HAILO8P", 2: "HAILO8R", 3: "HAILO8L", 103: "HAILO15H", 4: "HAILO15M", 5: "HAILO10H", 6: "HAILO15L",
}  # fmt: skip
RUNS_ON = {
    "HAILO8": {"HAILO8", "HAILO8P", "HAILO8R", "HAILO8L"},
    "HAILO8L": {"HAILO8L"},
    "HAILO10H": {"HAILO10H", "HAILO15H", "HAILO15M"},
    "HAILO15H": {"HAILO10H", "HAILO15H", "HAILO15M"},
    "HAILO15M": {"HAILO15M"},
    "HAILO15L": {"HAILO15L"},
}
"""Architectures of HEFs that a device takes, by the device's (HailoRT: DeviceBase::is_hef_compatible)."""
FIRST = 1 << 20
"""Bytes that are read at most: the header message comes first."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Hef:
    """The header of a HEF.

    Attributes:
        version: Of the file format.
        architecture: What it was compiled for, such as "HAILO8L"; "unknown (n)" for a number that is not known here.
        compiler: Version of the Dataflow Compiler; empty where it is not said.
        size: Bytes of the file.
    """

    version: int
    architecture: str
    compiler: str
    size: int

    def fits(self, device: str) -> bool:
        """Whether a device of this architecture takes it; True where the device's is not known here."""
        taken = RUNS_ON.get(device)
        return taken is None or self.architecture in taken


def read(path: Path) -> Hef:
    """Read a file's header. Raises ModelError."""
    try:
        with path.open("rb") as file:
            start = file.read(FIRST)
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"The HEF {path} cannot be read: {error.strerror}.", "fetch the model again.") from error
    if len(start) < COMMON.size:
        raise ModelError(f"{path.name} is no HEF: it has {size} bytes.", "fetch the model again.")
    magic, version, proto = COMMON.unpack_from(start)
    if magic != MAGIC:
        raise ModelError(f"{path.name} is no HEF: it does not begin as one.", "fetch the model again.")
    if version not in DISTINCT:
        raise ModelError(
            f"{path.name} has format version {version}, known are 0 to 3.", "upgrade the appliance, or compile it again."
        )
    begin = COMMON.size + DISTINCT[version]
    if size < begin + proto:
        raise ModelError(f"{path.name} is cut off: {size} bytes, at least {begin + proto} wanted.", "fetch the model again.")
    try:
        return _header(start[begin : begin + proto], version, size)
    except (ValueError, IndexError, struct.error) as error:
        raise ModelError(f"{path.name} is damaged: its header cannot be read ({error}).", "fetch the model again.") from error


def _header(message: bytes, version: int, size: int) -> Hef:
    for number, value in fields(message):
        if number == 1 and isinstance(value, bytes):
            told = dict(fields(value))
            number_of, compiler = told.get(1, 0), told.get(3, b"")
            name = ARCHITECTURES.get(int(number_of), f"unknown ({number_of})") if isinstance(number_of, int) else "unknown"
            return Hef(version, name, compiler.decode(errors="replace") if isinstance(compiler, bytes) else "", size)
    raise ValueError("it holds no header message")


def fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protocol-buffers message: (number, value); bytes for strings and messages. A cut-off end ends it.

    Raises:
        ValueError: It is none.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise ValueError("field number 0")
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif kind == FIXED64:
            yield number, float(struct.unpack_from("<d", message, at)[0])
            at += 8
        elif kind == FIXED32:
            yield number, float(struct.unpack_from("<f", message, at)[0])
            at += 4
        elif kind == BYTES:
            length, at = _varint(message, at)
            yield number, message[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if not byte & 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
