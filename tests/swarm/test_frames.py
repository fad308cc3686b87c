from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import LocalProtocolError, RemoteProtocolError
from swarm.wire.frames import (
    DEFAULT_LIMITS,
    PREFIX_LEN,
    PROTOCOL_VERSION,
    FrameLimits,
    decode_prefix,
    encode_prefix,
)

LIMITS = FrameLimits(header=100, payload=1000)


@given(st.integers(0, DEFAULT_LIMITS.header), st.integers(0, DEFAULT_LIMITS.payload))
def test_lengths_survive(header_len: int, payload_len: int) -> None:
    prefix = encode_prefix(header_len, payload_len)
    assert len(prefix) == PREFIX_LEN
    assert decode_prefix(prefix) == (header_len, payload_len)


@given(st.binary(max_size=2 * PREFIX_LEN))
def test_any_bytes_are_lengths_within_limits_or_an_error(raw: bytes) -> None:
    try:
        header_len, payload_len = decode_prefix(raw, LIMITS)
    except RemoteProtocolError:
        return
    assert header_len <= LIMITS.header
    assert payload_len <= LIMITS.payload


@given(
    st.integers(0, PREFIX_LEN - 1), st.integers(1, 255), st.integers(0, 100), st.integers(0, 1000)
)
def test_every_damaged_byte_is_seen_or_only_changes_lengths(
    place: int, change: int, header_len: int, payload_len: int
) -> None:
    prefix = bytearray(encode_prefix(header_len, payload_len, LIMITS))
    prefix[place] ^= change
    try:
        lengths = decode_prefix(bytes(prefix), LIMITS)
    except RemoteProtocolError:
        return
    assert place >= 4
    assert lengths != (header_len, payload_len)


@pytest.mark.parametrize(
    ("header_len", "payload_len"), [(101, 0), (0, 1001), (2**32 - 1, 0), (0, 2**32 - 1)]
)
def test_lengths_beyond_the_limits(header_len: int, payload_len: int) -> None:
    with pytest.raises(LocalProtocolError):
        encode_prefix(header_len, payload_len, LIMITS)
    generous = FrameLimits(header=2**32 - 1, payload=2**32 - 1)
    with pytest.raises(RemoteProtocolError, match="limit"):
        decode_prefix(encode_prefix(header_len, payload_len, generous), LIMITS)


def test_another_version_is_named() -> None:
    prefix = bytearray(encode_prefix(1, 1))
    prefix[2] = PROTOCOL_VERSION + 1
    with pytest.raises(RemoteProtocolError, match=f"version {PROTOCOL_VERSION + 1}"):
        decode_prefix(bytes(prefix))
