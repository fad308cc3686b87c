"""Records of the directory, as strangers and as members write them, and requests between nodes."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from swarm.directory import Announcement, Shelf
from swarm.directory.records import (
    ANNOUNCEMENTS,
    CLOCK_TOLERANCE,
    authorizer,
    directory_key,
    open_announcement,
    open_record,
    sign_record,
    validator,
)
from swarm.errors import RecordError
from swarm.membership.founder import Founder
from swarm.transport.light_hivemind import load

from .actors import Actors
from .bounds import Bounds, bounded, read
from .fuzzer import Fuzzer
from .hostile import DEEP_MSGPACK, FLOATS, VALUES, altered, mutated, plain, raw, valid

_BOUNDS = Bounds(memory=1 << 20, memory_per_byte=100, lines=6_000)
_NOW = 1_000_000.0

_NETWORK = Actors()
_FOUNDER = Founder(_NETWORK.signer("group"), _NETWORK.signer("authority"), clock=lambda: _NOW)
_MEMBER = _FOUNDER.admit(_NETWORK.signer("peer"))
_TRUST = _FOUNDER.trust()
_SHELVES = [ANNOUNCEMENTS, *Shelf]
_KEYS = {
    shelf: load("hivemind.dht.routing").DHTID.generate(source=directory_key(_FOUNDER.group, shelf))
    for shelf in _SHELVES
}
_VALIDATOR = validator(_TRUST)
_PACK = load("hivemind.utils.serializer").MSGPackSerializer.dumps

_ANNOUNCEMENTS = valid(inspect.type_info(Announcement))
_BODIES = st.one_of(
    _ANNOUNCEMENTS.map(lambda found: msgspec.structs.replace(found, peer="peer")).flatmap(
        lambda found: altered(plain(found))
    ),
    _ANNOUNCEMENTS.map(plain),
).map(msgspec.msgpack.encode) | st.sampled_from([b"", b"\xc0", bytes(20_000)])
_EXPIRIES = st.one_of(
    st.sampled_from([_NOW + 20, _NOW + 40, _NOW + 1000, math.nan, math.inf, -math.inf]), FLOATS
)


def tuples(depth: int) -> bytes:
    """Tuples in tuples, as hivemind's serializer knows them: an extension in an extension."""
    nested = b"\x90"
    for _ in range(depth):
        inner = b"\x91" + nested
        nested = b"\xc9" + len(inner).to_bytes(4, "big") + b"\x40" + inner
    return nested


def endless(expiry: float) -> bytes:
    """A member's record that has been withdrawn until then."""
    return sign_record(_MEMBER, ANNOUNCEMENTS, b"", expiry)


_PACKED = st.one_of(
    raw([_PACK("peer"), _PACK(b"record")]),
    VALUES.map(msgspec.msgpack.encode),
    DEEP_MSGPACK,
    st.sampled_from([40, 400, 1500]).map(tuples),
    st.just(b"\xc7\x01\x40\xc1"),
)


@st.composite
def _records(draw: st.DrawFn) -> tuple[str, Any, Any, float]:
    """A shelf, a member's sub-key, a record there, and when it is said to expire."""
    shelf, expiry = draw(st.sampled_from(_SHELVES)), draw(_EXPIRIES)
    signed: Any = sign_record(
        _MEMBER, draw(st.sampled_from([shelf, *_SHELVES])), draw(_BODIES), expiry
    )
    member: Any = "peer"
    match draw(st.integers(0, 6)):
        case 0:
            signed = draw(mutated([signed]))
        case 1:
            signed = draw(VALUES)
        case 2:
            member = draw(st.one_of(VALUES, st.sampled_from(["authority", "group", "PEER"])))
        case 3:
            expiry = draw(_EXPIRIES)
    return shelf, member, signed, expiry


def _check_record(case: tuple[str, Any, Any, float]) -> None:
    """A record is its author's own and lives as long as that one said, or it is refused."""
    shelf, member, signed, expiry = case
    size = len(signed) if isinstance(signed, bytes) else 1000
    found = read(
        lambda: open_record(_TRUST, shelf, member, signed, expiry), RecordError, size, _BOUNDS
    )
    valid_here = found is not None
    if found is not None:
        longest = 86_400 if shelf == Shelf.REPORTS else 40
        assert found[0].peer == "peer" == member and expiry <= _NOW + longest + CLOCK_TOLERANCE
        if shelf == ANNOUNCEMENTS:
            announcement = read(
                lambda: open_announcement(_TRUST, member, signed, expiry),
                RecordError,
                size,
                _BOUNDS,
            )
            assert announcement is None or announcement.peer == "peer"
            valid_here = announcement is not None or not found[1]
    if isinstance(member, str) and isinstance(signed, bytes):
        assert _validates(shelf, _packed(member), _PACK(signed), expiry) == valid_here


def _packed(member: str) -> bytes:
    try:
        return bytes(_PACK(member))
    except UnicodeEncodeError:
        return b"\xa1\xff"


def _validates(shelf: str, subkey: bytes, value: bytes, expiry: float) -> bool:
    record = SimpleNamespace(
        key=_KEYS[shelf].to_bytes(), subkey=subkey, value=value, expiration_time=expiry
    )
    with bounded(len(subkey) + len(value), _BOUNDS):
        return bool(_VALIDATOR.validate(record))


def _check_packed(case: tuple[str, bytes, bytes]) -> None:
    """What is no record is refused, without a word to whoever runs the node."""
    shelf, subkey, value = case
    assert not _validates(shelf, subkey, value, _NOW + 20)


def _check_request(case: tuple[float, bytes, bytes, bytes]) -> None:
    """Nobody but a member is answered, whatever it says that it has signed."""
    time, nonce, credential, signature = case
    protocol = load("hivemind.proto.dht_pb2")
    request, response = protocol.PingRequest(), protocol.PingResponse()
    request.auth.time, request.auth.nonce = time, nonce
    request.auth.client_access_token.public_key = credential
    request.auth.signature = signature
    response.auth.nonce = nonce
    response.auth.service_access_token.public_key = credential
    response.auth.signature = signature
    node = authorizer(_MEMBER)

    async def ask() -> tuple[bool, bool]:
        return await node.validate_request(request), await node.validate_response(response, request)

    with (
        bounded(len(credential) + len(signature) + len(nonce), _BOUNDS),
        asyncio.Runner() as runner,
    ):
        assert runner.run(ask()) == (False, False)


_CHECKS: dict[str, Any] = {
    "record": _check_record,
    "packed": _check_packed,
    "request": _check_request,
}


def check(case: tuple[str, Any]) -> None:
    """See `_CHECKS`."""
    kind, value = case
    _CHECKS[kind](value)


_REQUESTS = st.tuples(
    FLOATS, st.binary(min_size=16, max_size=16), raw([_MEMBER.credential]), st.binary(max_size=70)
)
FUZZER = Fuzzer(
    st.one_of(
        st.tuples(st.just("record"), _records()),
        st.tuples(st.just("record"), _records()),
        st.tuples(st.just("packed"), st.tuples(st.sampled_from(_SHELVES), _PACKED, _PACKED)),
        st.tuples(st.just("request"), _REQUESTS),
    ),
    check,
    examples=500,
)
