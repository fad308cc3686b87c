"""Revocations: who belongs to a group no longer, though its certificate has not expired yet.

Each authority keeps one list of those whom it has thrown out, and signs it. The list with the
highest number replaces the ones before; nothing is ever taken off it while a certificate of that
member could still be valid, so that an older list which somebody shows again changes nothing.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from swarm.errors import Lapse, MembershipError

from ..group import Group
from ..wire.fields import Counter, PeerId
from .certificate import MAX_CREDENTIAL, Name, Sign, Standing, Time, Verifies, examine

MAX_REVOKED = 1024
"""Members on one list. They are on it for as long as their certificates live, a day in general."""

MAX_LIST = MAX_CREDENTIAL + MAX_REVOKED * 416
"""Bytes of a signed list: a name may have letters of four bytes each."""

_LABEL = b"homeswarm revocations 1\0"


class Revocation(msgspec.Struct, frozen=True, array_like=True):
    """One member that was thrown out at `time`; after `until` no certificate of it can be valid.

    Times are seconds since 1970.
    """

    member: PeerId
    name: Name
    time: Time
    until: Time


class RevocationList(msgspec.Struct, frozen=True, array_like=True):
    """Whom one authority has thrown out. Of two lists the one with the higher number counts."""

    number: Counter
    revoked: Annotated[tuple[Revocation, ...], msgspec.Meta(max_length=MAX_REVOKED)] = ()


class _Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    # Nothing else: everybody passes it on as it came, so nobody must be able to add to it.
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_LIST)]
    signature: Annotated[bytes, msgspec.Meta(max_length=64)]
    credential: Annotated[bytes, msgspec.Meta(max_length=MAX_CREDENTIAL)]


_encoder = msgspec.msgpack.Encoder()
_envelopes = msgspec.msgpack.Decoder(_Signed)
_lists = msgspec.msgpack.Decoder(RevocationList)


def sign_list(content: RevocationList, group: Group, sign: Sign, credential: bytes) -> bytes:
    """The list as others take it; `sign` and `credential` are the authority's."""
    body = _encoder.encode(content)
    return _encoder.encode(_Signed(body, sign(_message(group, body)), credential))


def read_list(signed: bytes, group: Group, verifies: Verifies) -> tuple[Standing, RevocationList]:
    """Whose list this is, and what is on it. Whether that one is an authority is not looked at.

    Raises `MembershipError` on anything that nobody of the group has signed.
    """
    if len(signed) > MAX_LIST:
        raise MembershipError(Lapse.FORGED, f"a list of revocations of {len(signed)} bytes")
    try:
        envelope = _envelopes.decode(signed)
        content = _lists.decode(envelope.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MembershipError(Lapse.FORGED, f"no list of revocations: {error}") from error
    author = examine(envelope.credential, group, verifies)
    if not verifies(_message(group, envelope.body), envelope.signature, author.peer):
        raise MembershipError(Lapse.FORGED, "a list's signature is wrong")
    return author, content


def _message(group: Group, body: bytes) -> bytes:
    return _LABEL + group.key.encode() + b"\0" + body
