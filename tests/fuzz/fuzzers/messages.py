"""Messages: of sessions, relays and authorities, and what is in the directory's records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from swarm.directory import Announcement, decode_announcement, encode_announcement
from swarm.errors import RecordError, RemoteProtocolError
from swarm.wire import enrolment, gauging
from swarm.wire.messages import AnyMessage, decode, encode

from .bounds import Bounds, read
from .fuzzer import Fuzzer
from .hostile import DEEP_MSGPACK, altered, numbers_hold, plain, raw, valid

_BOUNDS = Bounds(memory=64 * 1024, memory_per_byte=100)
"""A tuple of small integers takes a hundred bytes of memory where its msgpack takes three."""


@dataclass(frozen=True)
class _Reader:
    """What is read, how, and the error of it."""

    kind: Any
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    refusal: type[Exception]


_READERS = (
    _Reader(AnyMessage, decode, encode, RemoteProtocolError),
    _Reader(enrolment.Question, enrolment.decode_question, enrolment.encode, RemoteProtocolError),
    _Reader(enrolment.Answer, enrolment.decode_answer, enrolment.encode, RemoteProtocolError),
    _Reader(gauging.GaugeMessage, gauging.decode, gauging.encode, RemoteProtocolError),
    _Reader(Announcement, decode_announcement, encode_announcement, RecordError),
)


def _inputs(reader: _Reader) -> st.SearchStrategy[tuple[_Reader, bytes]]:
    values = valid(inspect.type_info(reader.kind))
    near = values.flatmap(lambda value: raw([reader.encode(value)]))
    changed = values.flatmap(lambda value: altered(plain(value))).map(msgspec.msgpack.encode)
    nested = st.builds(lambda value, nest: reader.encode(value)[:-1] + nest, values, DEEP_MSGPACK)
    return st.tuples(st.just(reader), st.one_of(near, changed, changed, nested, DEEP_MSGPACK))


def check(case: tuple[_Reader, bytes]) -> None:
    """A message within its limits, which comes out again as it went in, or a refusal."""
    reader, received = case
    message = read(lambda: reader.decode(received), reader.refusal, len(received), _BOUNDS)
    if message is None:
        return
    assert numbers_hold(message, inspect.type_info(reader.kind)), message
    assert reader.decode(reader.encode(message)) == message


FUZZER = Fuzzer(st.one_of(*map(_inputs, _READERS)), check, examples=300)
