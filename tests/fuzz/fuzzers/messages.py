"""Messages between members: sessions' and relays', and whatever else `decode` understands."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from swarm.errors import RemoteProtocolError
from swarm.wire.fields import Message
from swarm.wire.messages import AnyMessage, decode, encode

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_MSGPACK, altered, numbers_hold, plain, raw, valid

_KIND = inspect.type_info(AnyMessage)
MESSAGES = valid(_KIND)

_BOUNDS = Bounds(memory=64 * 1024, memory_per_byte=100)
"""A tuple of small integers takes a hundred bytes of memory where its msgpack takes three."""

_NEAR = MESSAGES.flatmap(lambda message: raw([encode(message)]))
_ALTERED = MESSAGES.flatmap(lambda message: altered(plain(message))).map(msgspec.msgpack.encode)
_NESTED = st.builds(lambda message, nest: encode(message)[:-1] + nest, MESSAGES, DEEP_MSGPACK)


def check(header: bytes) -> None:
    """A message within its limits, which comes out again as it went in, or a refusal."""
    message = read(lambda: decode(header), RemoteProtocolError, len(header), _BOUNDS)
    if message is None:
        return
    assert isinstance(message, Message)
    assert numbers_hold(message, _KIND), message
    assert decode(encode(message)) == message


FUZZER = Fuzzer(st.one_of(_NEAR, _ALTERED, _ALTERED, _NESTED, DEEP_MSGPACK), check)
