"""Records as bytes: whole or refused, whatever happens to a bit."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.core.memory import codec
from appliance.core.memory.model import Kind, Meta, Record
from appliance.errors import CorruptRecordError


def record(value: bytes, namespace: str = "default", kind: Kind = Kind.bytes) -> Record:
    meta = Meta(
        namespace=namespace, key="ключ 🦀", kind=kind, version="0" * 32, checksum=codec.checksum(kind, value), size=len(value),
        modified=1.25, expires=2.5, tags=("a", "b"), device="pc",
    )  # fmt: skip
    return Record(meta, value)


@given(st.binary(max_size=20_000), st.sampled_from(list(Kind)), st.integers(0, 30_000))
def test_what_is_encoded_is_decoded(value: bytes, kind: Kind, compress_above: int) -> None:
    whole = record(value, kind=kind)
    assert codec.decode(codec.encode(whole, compress_above), "x") == whole


@given(st.binary(max_size=300), st.data())
def test_no_flipped_bit_and_no_cut_goes_unseen(value: bytes, data: st.DataObject) -> None:
    encoded = bytearray(codec.encode(record(value)))
    place = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[place // 8] ^= 1 << place % 8
    with pytest.raises(CorruptRecordError):
        codec.decode(bytes(encoded), "x")
    with pytest.raises(CorruptRecordError):
        codec.decode(codec.encode(record(value))[: data.draw(st.integers(0, len(encoded) - 1))], "x")


def test_large_values_are_compressed_and_models_are_not() -> None:
    value = b"same " * 10_000
    assert len(codec.encode(record(value))) < 1000
    assert len(codec.encode(record(value, "models.vision"))) > len(value)
    assert len(codec.encode(record(value[:4000]))) > 4000


def test_a_header_that_claims_too_much_is_refused_before_it_is_believed() -> None:
    whole = record(b"x" * 10_000)
    huge = Record(Meta(namespace="n", key="k", kind=Kind.bytes, version="1", size=codec.LARGEST + 1), b"")
    data = codec.encode(whole)
    body = codec.encode(huge)[: -codec.DIGEST]
    forged = body + hashlib.sha256(body).digest()
    with pytest.raises(CorruptRecordError):
        codec.decode(forged, "x")
    assert codec.decode(data, "x") == whole


def test_the_checksum_tells_kinds_and_deletions_apart() -> None:
    sums = {codec.checksum(Kind.bytes, b"1"), codec.checksum(Kind.json, b"1"), codec.checksum(Kind.bytes, b"", deleted=True)}
    assert len(sums) == 3
