"""Records in the group's DHT: how they are signed, and who may write and read them.

A record carries its expiry, its author's credential and signature. So nobody can write in another's
name, place a record on another shelf or under another's sub-key, or make one live longer than it
was meant to. A member has one record on each shelf, under its id, whichever of its processes has
written it. Every request between nodes is signed by a member too, and so is every answer: outsiders
can neither write nor read.
"""

from __future__ import annotations

import logging
import secrets
import struct
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from swarm.errors import MembershipError, RecordError
from swarm.group import Group

from ..membership.certificate import MAX_CREDENTIAL, Role, Standing
from ..membership.membership import Membership
from ..membership.trust import Trust
from ..transport.light_hivemind import load
from . import LIFETIME, Announcement, Shelf, decode_announcement
from .values import serializer

logger = logging.getLogger(__name__)

MAX_LIFETIME = 2 * LIFETIME
"""Seconds; records that claim to live longer are refused."""

_MAX_LIFETIMES: dict[str, float] = {Shelf.REPORTS: 24 * 3600.0}
"""A report is for people to read: whoever has made it may be gone by then."""

CLOCK_TOLERANCE = 10.0
"""Seconds by which members' clocks may differ. Expiry is an absolute time: beyond this, records
would seem dead to some while others still count on them."""

ANNOUNCEMENTS = "peers"
"""The shelf of announcements."""

_MAX_BODY = {ANNOUNCEMENTS: 16 * 1024, Shelf.REVOCATIONS: 512 * 1024}
_USUAL_BODY = 16 * 1024
_REQUEST_AGE = 60.0
_MAX_KEYS = 16
"""Keys in one request: each may cost signatures to check, or a list of neighbours to send. A node
that hands on all that it has needs one for each shelf."""

_EXPIRY = struct.Struct(">d")
_RECORD = b"homeswarm record 1\0"
_REQUEST = b"homeswarm dht request 1\0"
_RESPONSE = b"homeswarm dht response 1\0"

_WRITERS: dict[str, Role] = {
    ANNOUNCEMENTS: Role.PEER,
    Shelf.REVOCATIONS: Role.AUTHORITY,
    Shelf.AUTHORITIES: Role.AUTHORITY,
    Shelf.REPORTS: Role.CLIENT,
}
"""Who may put records on which shelf."""


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: bytes
    signature: Annotated[bytes, msgspec.Meta(max_length=64)]
    credential: Annotated[bytes, msgspec.Meta(max_length=MAX_CREDENTIAL)]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Signed)


def directory_key(group: Group, shelf: str = ANNOUNCEMENTS) -> str:
    """The DHT key under which a shelf of this group is."""
    return f"homeswarm/{group.id}/{shelf}"


def max_lifetime(shelf: str) -> float:
    """How many seconds a record on this shelf may live."""
    return _MAX_LIFETIMES.get(shelf, MAX_LIFETIME)


def sign_record(membership: Membership, shelf: str, body: bytes, expiry: float) -> bytes:
    """A record of ours that lives until `expiry` (seconds since 1970) and no longer."""
    signature = membership.sign(_message(membership.group, shelf, expiry, body))
    return _encoder.encode(_Signed(body, signature, membership.credential))


def open_record(
    trust: Trust, shelf: str, member: object, signed: object, expiry: float
) -> tuple[Standing, bytes]:
    """Who has written a record that lies under this sub-key, and what is in it.

    Raises `RecordError` on a record that no correct member stores.
    """
    if not isinstance(member, str) or not isinstance(signed, bytes):
        raise RecordError("neither the member's id nor its record have the right type")
    limit = _MAX_BODY.get(shelf, _USUAL_BODY)
    if len(signed) > limit + MAX_CREDENTIAL + 128:
        raise RecordError(f"record of {member} has {len(signed)} bytes")
    try:
        record = _decoder.decode(signed)
        author = trust.check(record.credential)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MembershipError) as error:
        raise RecordError(f"record of {member} is not from a member: {error}") from error
    if author.member != member:
        raise RecordError(f"record of {author.name} lies in the place of {member}")
    if not author.may(_WRITERS[shelf]):
        raise RecordError(f"{author.name} may not write here")
    message = _message(trust.group, shelf, expiry, record.body)
    if not trust.verifies(message, record.signature, author.peer):
        raise RecordError(f"record of {member} is not as it was signed")
    # Said so that NaN, of which nothing is true, is too long as well.
    if not expiry <= trust.clock() + max_lifetime(shelf) + CLOCK_TOLERANCE:
        raise RecordError(f"record of {member} claims to live too long")
    return author, record.body


def open_announcement(
    trust: Trust, member: object, signed: object, expiry: float
) -> Announcement | None:
    """The announcement in a record, None where the peer has withdrawn; errors as `open_record`."""
    author, body = open_record(trust, ANNOUNCEMENTS, member, signed, expiry)
    if not body:
        return None
    announcement = decode_announcement(body)
    if announcement.peer != author.peer:
        raise RecordError(f"{author.name} announces {announcement.peer}")
    return announcement


def validator(trust: Trust) -> Any:
    """A hivemind validator; it runs on every record that this node stores or is given."""
    validation = load("hivemind.dht.validation")
    key_of = load("hivemind.dht.routing").DHTID.generate
    shelves = {
        key_of(source=directory_key(trust.group, shelf)).to_bytes(): shelf for shelf in _WRITERS
    }
    loads: Callable[[bytes], Any] = serializer().loads

    class GroupValidator(validation.RecordValidatorBase):  # type: ignore[misc, name-defined]
        def validate(self, record: Any) -> bool:
            shelf = shelves.get(record.key)
            if shelf is None:
                return False
            try:
                member, signed = loads(record.subkey), loads(record.value)
                if shelf == ANNOUNCEMENTS:
                    open_announcement(trust, member, signed, record.expiration_time)
                else:
                    open_record(trust, shelf, member, signed, record.expiration_time)
            except (RecordError, ValueError, TypeError) as error:
                logger.debug("record refused why=%s", error)
                return False
            return True

    return GroupValidator()


def authorizer(membership: Membership) -> Any:
    """A hivemind authorizer by which nodes sign all that they say, as members.

    A request carries its time and a nonce, names the node that it is for, and counts once: whoever
    gets one can show it to nobody else as its own. A response carries the request's nonce.
    """
    auth = load("hivemind.utils.auth")
    storage = load("hivemind.utils.timed_storage").TimedStorage
    me = membership.standing.peer.encode()

    class GroupAuthorizer(auth.AuthorizerBase):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._seen = storage()

        async def sign_request(self, request: Any, recipient: str) -> None:
            request.auth.client_access_token.public_key = membership.credential
            request.auth.service_public_key = recipient.encode()
            request.auth.time = time.time()
            request.auth.nonce = secrets.token_bytes(16)
            request.auth.signature = membership.sign(_said(_REQUEST, membership.group, request))

        async def validate_request(self, request: Any) -> bool:
            age, nonce = time.time() - request.auth.time, request.auth.nonce
            if not abs(age) <= _REQUEST_AGE or len(nonce) != 16 or nonce in self._seen:
                return False
            if request.auth.service_public_key != me:
                return False
            if len(getattr(request, "keys", ())) > _MAX_KEYS:
                return False
            credential = request.auth.client_access_token.public_key
            if not _from_member(membership.trust, _REQUEST, request, credential):
                return False
            self._seen.store(nonce, None, time.time() + 2 * _REQUEST_AGE)
            return True

        async def sign_response(self, response: Any, request: Any) -> None:
            response.auth.service_access_token.public_key = membership.credential
            response.auth.nonce = request.auth.nonce
            response.auth.signature = membership.sign(_said(_RESPONSE, membership.group, response))

        async def validate_response(self, response: Any, request: Any) -> bool:
            credential = response.auth.service_access_token.public_key
            answers = bool(response.auth.nonce == request.auth.nonce)
            return answers and _from_member(membership.trust, _RESPONSE, response, credential)

    return GroupAuthorizer()


def name_recipients(protocol: Any) -> None:
    """Has a node's requests be signed for whom they are sent to, as `authorizer` expects."""
    stub_of = protocol.get_stub

    def get_stub(peer: Any) -> Any:
        stub = stub_of(peer)
        stub._service_public_key = str(peer)
        return stub

    protocol.get_stub = get_stub


def _message(group: Group, shelf: str, expiry: float, body: bytes) -> bytes:
    return _RECORD + directory_key(group, shelf).encode() + b"\0" + _EXPIRY.pack(expiry) + body


def _said(label: bytes, group: Group, message: Any) -> bytes:
    """What is signed of a message between nodes: all of it but the signature."""
    message.auth.signature = b""
    raw: bytes = message.SerializeToString(deterministic=True)
    return label + group.key.encode() + b"\0" + raw


def _from_member(trust: Trust, label: bytes, message: Any, credential: bytes) -> bool:
    signature = message.auth.signature
    try:
        author = trust.check(credential)
    except MembershipError as error:
        logger.debug("dht message refused why=%s", error)
        return False
    return trust.verifies(_said(label, trust.group, message), signature, author.peer)
