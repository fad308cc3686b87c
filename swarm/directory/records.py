"""Records in the group's DHT: how they are sealed, and who may write and read them.

A record carries its expiry and an announcement, sealed with the group's secret for one peer id:
outsiders cannot write, no member by accident in another's name, and nobody can make a record live
longer than it was meant to. Every request between nodes carries proof of the secret too, so that
outsiders cannot read either.
"""

from __future__ import annotations

import logging
import secrets
import struct
import time
from collections.abc import Callable
from typing import Any

from swarm.errors import RecordError
from swarm.group import Group

from ..transport.light_hivemind import load
from . import LIFETIME, Announcement, decode_announcement

logger = logging.getLogger(__name__)

MAX_LIFETIME = 2 * LIFETIME
"""Seconds; records that claim to live longer are refused."""

CLOCK_TOLERANCE = 10.0
"""Seconds by which members' clocks may differ. Expiry is an absolute time: beyond this, records
would seem dead to some while others still count on them."""

_REQUEST_AGE = 60.0
_EXPIRY = struct.Struct(">d")
_REQUEST_OWNER = "\0dht request"
_RESPONSE_OWNER = "\0dht response"


def directory_key(group: Group) -> str:
    """The DHT key under which a group's announcements are."""
    return f"homeswarm/{group.id}/peers"


def seal_record(group: Group, peer: str, record: bytes, expiry: float) -> bytes:
    """A record of `peer` that lives until `expiry` (seconds since 1970) and no longer."""
    return group.seal(_EXPIRY.pack(expiry) + record, owner=peer)


def open_record(group: Group, peer: object, sealed: object, expiry: float) -> Announcement | None:
    """The announcement in a sealed record, None where the peer has withdrawn.

    Raises `RecordError` on a record that no correct member stores.
    """
    if not isinstance(peer, str) or not isinstance(sealed, bytes):
        raise RecordError("neither the peer's id nor its record have the right type")
    record = group.unseal(sealed, owner=peer)
    if record is None:
        raise RecordError(f"record of {peer} is not sealed by a member")
    if record[: _EXPIRY.size] != _EXPIRY.pack(expiry):
        raise RecordError(f"record of {peer} has another expiry than it was sealed with")
    if expiry > time.time() + MAX_LIFETIME + CLOCK_TOLERANCE:
        raise RecordError(f"record of {peer} claims to live too long")
    if len(record) == _EXPIRY.size:
        return None
    announcement = decode_announcement(record[_EXPIRY.size :])
    if announcement.peer != peer:
        raise RecordError(f"{peer} announces {announcement.peer}")
    return announcement


def validator(group: Group) -> Any:
    """A hivemind validator; it runs on every record that this node stores or is given."""
    validation = load("hivemind.dht.validation")
    key = load("hivemind.dht.routing").DHTID.generate(source=directory_key(group)).to_bytes()
    loads: Callable[[bytes], Any] = load("hivemind.utils.serializer").MSGPackSerializer.loads

    class GroupValidator(validation.RecordValidatorBase):  # type: ignore[misc, name-defined]
        def validate(self, record: Any) -> bool:
            if record.key != key:
                return False
            try:
                peer, sealed = loads(record.subkey), loads(record.value)
                open_record(group, peer, sealed, record.expiration_time)
            except (RecordError, ValueError, TypeError) as error:
                logger.debug("record refused why=%s", error)
                return False
            return True

    return GroupValidator()


def authorizer(group: Group) -> Any:
    """A hivemind authorizer that puts proof of the group's secret into all that nodes exchange.

    A request carries its time and a nonce and counts once; a response carries the request's nonce.
    """
    auth = load("hivemind.utils.auth")
    storage = load("hivemind.utils.timed_storage").TimedStorage

    class GroupAuthorizer(auth.AuthorizerBase):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self._seen = storage()

        async def sign_request(self, request: Any, service_public_key: Any) -> None:
            request.auth.time = time.time()
            request.auth.nonce = secrets.token_bytes(16)
            _sign(group, request, _REQUEST_OWNER)

        async def validate_request(self, request: Any) -> bool:
            age, nonce = time.time() - request.auth.time, request.auth.nonce
            if abs(age) > _REQUEST_AGE or nonce in self._seen:
                return False
            if not _verifies(group, request, _REQUEST_OWNER):
                return False
            self._seen.store(nonce, None, time.time() + 2 * _REQUEST_AGE)
            return True

        async def sign_response(self, response: Any, request: Any) -> None:
            response.auth.nonce = request.auth.nonce
            _sign(group, response, _RESPONSE_OWNER)

        async def validate_response(self, response: Any, request: Any) -> bool:
            answers = bool(response.auth.nonce == request.auth.nonce)
            return answers and _verifies(group, response, _RESPONSE_OWNER)

    return GroupAuthorizer()


def _sign(group: Group, message: Any, owner: str) -> None:
    message.auth.signature = b""
    raw: bytes = message.SerializeToString(deterministic=True)
    message.auth.signature = group.seal(raw, owner)[len(raw) :]


def _verifies(group: Group, message: Any, owner: str) -> bool:
    tag, message.auth.signature = message.auth.signature, b""
    raw: bytes = message.SerializeToString(deterministic=True)
    return group.unseal(raw + tag, owner) is not None
