"""Made-up HEFs: a real header, and behind it an ONNX model that the stand-in for the vendor's package runs."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

ARCHITECTURES = {"HAILO8": 0, "HAILO8L": 3, "HAILO10H": 5}


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def header(architecture: str = "HAILO8", compiler: str = "3.31.0", version: int = 0) -> bytes:
    """Of a HEF: the struct in network order, then the protocol buffers with the header message first."""
    told = field(1, ARCHITECTURES[architecture]) + field(2, 1_700_000_000) + field(3, compiler.encode()) + field(4, 1)
    proto = field(1, told) + field(4, b"")
    distinct = {0: 20, 1: 16, 2: 32, 3: 44}[version]
    return struct.pack(">III", 0x01484546, version, len(proto)) + bytes(distinct) + proto


def write(path: Path, about: dict[str, Any], onnx: bytes, architecture: str = "HAILO8", compiler: str = "3.31.0") -> Path:
    """A HEF for the stand-in."""
    told = {"name": path.stem, "multi_context": False, **about}
    path.write_bytes(header(architecture, compiler) + json.dumps(told).encode() + b"\n" + onnx)
    return path
