"""Frames: how one message travels over a byte stream, without any input or output.

    magic "HS" | version u8 | reserved u8 | header length u32 | payload length u32 | header |
    payload

Numbers are big-endian. The header is one msgpack message of `swarm.wire.messages`, the payload is
raw tensor bytes. A receiver reads the `PREFIX_LEN` bytes first and learns from `decode_prefix`
how much follows, so that both lengths are checked before any memory is taken.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from swarm.errors import LocalProtocolError, RemoteProtocolError

PROTOCOL_VERSION = 1
PREFIX_LEN = 12

_PREFIX = struct.Struct(">2sBBII")
_MAGIC = b"HS"


@dataclass(frozen=True)
class FrameLimits:
    """The largest frame parts that are read or written, in bytes."""

    header: int = 64 * 1024
    payload: int = 64 * 1024 * 1024


DEFAULT_LIMITS = FrameLimits()


def encode_prefix(header_len: int, payload_len: int, limits: FrameLimits = DEFAULT_LIMITS) -> bytes:
    """The fixed bytes in front of a frame.

    Raises `LocalProtocolError` where we ourselves would exceed the limits.
    """
    if header_len > limits.header or payload_len > limits.payload:
        raise LocalProtocolError(f"frame of {header_len}+{payload_len} bytes exceeds {limits}")
    return _PREFIX.pack(_MAGIC, PROTOCOL_VERSION, 0, header_len, payload_len)


def decode_prefix(prefix: bytes, limits: FrameLimits = DEFAULT_LIMITS) -> tuple[int, int]:
    """Header and payload length in bytes; raises `RemoteProtocolError` on anything unexpected."""
    if len(prefix) != PREFIX_LEN:
        raise RemoteProtocolError(f"frame prefix of {len(prefix)} bytes instead of {PREFIX_LEN}")
    magic, version, reserved, header_len, payload_len = _PREFIX.unpack(prefix)
    if magic != _MAGIC or reserved != 0:
        raise RemoteProtocolError("not a Homeswarm frame")
    if version != PROTOCOL_VERSION:
        raise RemoteProtocolError(
            f"protocol version {version}; this side speaks {PROTOCOL_VERSION}"
        )
    if header_len > limits.header:
        raise RemoteProtocolError(f"header of {header_len} bytes; the limit is {limits.header}")
    if payload_len > limits.payload:
        raise RemoteProtocolError(f"payload of {payload_len} bytes; the limit is {limits.payload}")
    return header_len, payload_len
