from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from swarm.errors import RemoteProtocolError
from swarm.membership.certificate import MAX_CREDENTIAL
from swarm.wire import gauging
from swarm.wire.enrolment import Answer, Question, decode_answer, decode_question
from swarm.wire.fields import Message
from swarm.wire.linking import Hello, Ping
from swarm.wire.messages import AnyMessage, Close, decode, encode


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values that a msgspec type allows, from its own constraints."""
    match kind:
        case inspect.StructType():
            fields = {each.name: values(each.type) for each in kind.fields}
            return st.builds(kind.cls, **fields)
        case inspect.UnionType():
            return st.one_of(*map(values, kind.types))
        case inspect.VarTupleType():
            limit = min(kind.max_length or 4, 4)
            return st.lists(
                values(kind.item_type), min_size=kind.min_length or 0, max_size=limit
            ).map(tuple)
        case inspect.IntType():
            top = kind.le if kind.le is not None else (kind.lt or 2**62) - 1
            return st.integers(kind.ge if kind.ge is not None else 0, top)
        case inspect.FloatType():
            top = kind.le if kind.le is not None else math.inf
            return st.floats(kind.ge, None if math.isinf(top) else top, allow_infinity=False)
        case inspect.StrType():
            return st.text(min_size=kind.min_length or 0, max_size=kind.max_length or 20)
        case inspect.BytesType():
            return st.binary(min_size=kind.min_length or 0, max_size=kind.max_length or 20)
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
    raise AssertionError(f"no strategy for {kind}")


Decode = Callable[[bytes], Message]

PROTOCOLS: tuple[tuple[Any, Decode], ...] = (
    (AnyMessage, decode),
    (Question, decode_question),
    (Answer, decode_answer),
    (gauging.GaugeMessage, gauging.decode),
)
"""What is said over links, to authorities and by them, and while a line is measured."""


def said(kind: Any, decode: Decode) -> st.SearchStrategy[tuple[Message, Decode]]:
    return st.tuples(values(inspect.type_info(kind)), st.just(decode))


MESSAGES = st.one_of([said(*protocol) for protocol in PROTOCOLS])


@given(MESSAGES)
def test_every_message_survives(case: tuple[Message, Decode]) -> None:
    message, decode = case
    assert decode(encode(message)) == message


@pytest.mark.parametrize("decode", [decode for _, decode in PROTOCOLS])
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(decode: Decode, raw: bytes) -> None:
    try:
        message = decode(raw)
    except RemoteProtocolError:
        return
    assert isinstance(message, Message)


@given(MESSAGES, st.data())
def test_a_damaged_message_is_a_message_or_an_error(
    case: tuple[Message, Decode], data: st.DataObject
) -> None:
    message, decode = case
    raw = bytearray(encode(message))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        assert isinstance(decode(bytes(raw)), Message)
    except RemoteProtocolError:
        pass


@given(MESSAGES)
def test_a_cut_message_is_an_error(case: tuple[Message, Decode]) -> None:
    message, decode = case
    with pytest.raises(RemoteProtocolError):
        decode(encode(message)[:-1])


@given(MESSAGES)
def test_what_is_for_others_is_an_error(case: tuple[Message, Decode]) -> None:
    """A question is no answer, and neither is what members say to each other."""
    message, decode = case
    for _, other in PROTOCOLS:
        if other is not decode:
            with pytest.raises(RemoteProtocolError):
                other(encode(message))


@pytest.mark.parametrize(
    "fields",
    [
        ["ping", -1],
        ["ping", 2**62],
        ["ping", "1"],
        ["ping"],
        ["unknown", 1],
        ["hello"],
        ["hello", "text"],
        ["hello", b"n" * (MAX_CREDENTIAL + 1)],
        ["renewed", b"n" * (MAX_CREDENTIAL + 1)],
        ["denied", "in a bad mood"],
        ["close", "tooshort"],
        ["close", "s" * 65],
        [],
        "ping",
    ],
)
def test_what_no_correct_peer_sends(fields: object) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgspec.msgpack.encode(fields))


def test_nesting_that_would_exhaust_the_stack_is_an_error() -> None:
    close = msgspec.msgpack.encode(["close", "s" * 16])
    with pytest.raises(RemoteProtocolError):
        decode(b"\x93" + close[1:] + b"\x91" * 60_000 + b"\xc0")


def test_a_field_of_a_later_version_is_passed_over() -> None:
    assert decode(msgspec.msgpack.encode(["ping", 7, "new"])) == Ping(7)
    assert decode(msgspec.msgpack.encode(["close", "s" * 16, 1])) == Close("s" * 16)


def test_tags_are_unique_and_messages_are_frozen() -> None:
    unions = [inspect.type_info(kind) for kind, _ in PROTOCOLS]
    structs = [
        kind
        for union in unions
        if isinstance(union, inspect.UnionType)
        for kind in union.types
        if isinstance(kind, inspect.StructType)
    ]
    assert len({kind.tag for kind in structs}) == len(structs) == len(Message.__subclasses__())
    with pytest.raises(AttributeError):
        Hello(b"n" * 16).version = "2"  # type: ignore[misc]
    assert not any(issubclass(kind.cls, enum.Enum) for kind in structs)
