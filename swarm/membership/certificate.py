"""Certificates: what somebody is in a group, signed by one who may say so.

A *credential* is a chain of them, from its holder (the leaf) up to one that the group's key has
signed. Authorities, which a group's bootstraps are, may certify anybody. Any other member may only
certify processes of its own: under the same name, with no more roles. So a machine joins once, and
programs that it runs side by side are one member with a peer id each.

Every signature covers the group's key: a member of two groups cannot be made to speak in one of
them with what it has signed in the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from swarm.errors import Lapse, MembershipError

from ..group import Group
from ..wire.fields import PeerId

MAX_NAME = 64
"""Characters of a member's name."""

MAX_CREDENTIAL = 4096
"""Bytes of an encoded credential; one of three certificates has about 900."""

CLOCK_TOLERANCE = 60.0
"""Seconds that a certificate may come from the future: clocks differ."""

_LABEL = b"homeswarm certificate 1\0"
_MAX_DEPTH = 6
_SIGNATURE_LEN = 64

Verifies = Callable[[bytes, bytes, str], bool]
"""Whether this message has this signature of this peer; see `transport.Signer.verifies`."""

Sign = Callable[[bytes], bytes]

Time = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]


class Role(StrEnum):
    """What a member may do."""

    CLIENT = "client"
    """Ask the swarm."""
    PEER = "peer"
    """Serve blocks."""
    ADMIN = "admin"
    """Invite and revoke."""
    AUTHORITY = "authority"
    """Certify others: what a bootstrap does."""


ROLES: dict[Role, tuple[Role, ...]] = {
    Role.CLIENT: (Role.CLIENT,),
    Role.PEER: (Role.CLIENT, Role.PEER),
    Role.ADMIN: (Role.CLIENT, Role.PEER, Role.ADMIN),
    Role.AUTHORITY: (Role.CLIENT, Role.PEER, Role.ADMIN, Role.AUTHORITY),
}
"""What somebody may do who is invited as this."""


class Certificate(msgspec.Struct, frozen=True, array_like=True):
    """Says that `subject` is `name`, with these roles, between two times (seconds since 1970)."""

    subject: PeerId
    issuer: PeerId
    name: Name
    roles: Annotated[tuple[Role, ...], msgspec.Meta(max_length=len(Role))]
    issued: Time
    expires: Time


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An encoded certificate, as its issuer has signed it, and nothing that nobody has signed."""

    body: Annotated[bytes, msgspec.Meta(max_length=1024)]
    signature: Annotated[bytes, msgspec.Meta(max_length=_SIGNATURE_LEN)]


Chain = Annotated[tuple[Signed, ...], msgspec.Meta(min_length=1, max_length=_MAX_DEPTH)]


@dataclass(frozen=True)
class Standing:
    """What a credential shows: who `peer` is in the group.

    `member` is the peer id that an authority has certified: the machine that `peer` is, or whose
    process it is. `issuers` have signed on the way; without them it would be nobody. It holds from
    `begins` until `expires` (seconds since 1970).
    """

    peer: str
    member: str
    name: str
    roles: frozenset[Role]
    begins: float
    expires: float
    issuers: frozenset[str] = frozenset()

    def may(self, role: Role) -> bool:
        """Whether this member has the role."""
        return role in self.roles


_encoder = msgspec.msgpack.Encoder()
_chains: msgspec.msgpack.Decoder[tuple[Signed, ...]] = msgspec.msgpack.Decoder(Chain)
_certificates = msgspec.msgpack.Decoder(Certificate)


def issue(certificate: Certificate, group: Group, sign: Sign, above: bytes = b"") -> bytes:
    """The credential of the subject; `sign` and `above` are the issuer's key and own credential.

    Without `above` the issuer is the group's key itself.
    """
    body = _encoder.encode(certificate)
    signed = Signed(body, sign(_message(group, body)))
    return _encoder.encode((signed, *(_parse(above) if above else ())))


def examine(credential: bytes, group: Group, verifies: Verifies) -> Standing:
    """What a credential shows, whatever the time is and whoever has been revoked.

    Raises `MembershipError` if it is malformed, forged, or of another group.
    """
    chain = _parse(credential)
    certificates = [_certificate(signed.body) for signed in chain]
    if certificates[-1].issuer != group.key:
        raise MembershipError(Lapse.FOREIGN, "this certificate is of another group")
    holder, above, member = group.key, None, ""
    for signed, certificate in zip(reversed(chain), reversed(certificates), strict=True):
        if certificate.issuer != holder:
            raise MembershipError(Lapse.FORGED, "the certificates do not form a chain")
        if not verifies(_message(group, signed.body), signed.signature, holder):
            raise MembershipError(Lapse.FORGED, "a certificate's signature is wrong")
        if above is None or Role.AUTHORITY in above.roles:
            member = certificate.subject
        elif not _is_process(certificate, above):
            raise MembershipError(Lapse.FORGED, "a member certifies more than it is")
        holder, above = certificate.subject, certificate
    leaf = certificates[0]
    return Standing(
        peer=leaf.subject,
        member=member,
        name=leaf.name,
        roles=frozenset(leaf.roles),
        begins=max(each.issued for each in certificates),
        expires=min(each.expires for each in certificates),
        issuers=frozenset(each.issuer for each in certificates),
    )


def above(credential: bytes, group: Group, verifies: Verifies) -> Standing:
    """Who the member is whose process, or who itself, shows this credential.

    Raises like `examine`.
    """
    standing = examine(credential, group, verifies)
    chain = _parse(credential)
    while _certificate(chain[0].body).subject != standing.member:
        chain = chain[1:]
    return examine(_encoder.encode(chain), group, verifies)


def _is_process(certificate: Certificate, member: Certificate) -> bool:
    """Whether what a member says of one of its own adds nothing to what it is."""
    return certificate.name == member.name and set(certificate.roles) <= set(member.roles)


def _parse(credential: bytes) -> tuple[Signed, ...]:
    if len(credential) > MAX_CREDENTIAL:
        raise MembershipError(Lapse.FORGED, f"a credential of {len(credential)} bytes")
    try:
        return _chains.decode(credential)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MembershipError(Lapse.FORGED, f"no credential: {error}") from error


def _certificate(body: bytes) -> Certificate:
    try:
        return _certificates.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MembershipError(Lapse.FORGED, f"no certificate: {error}") from error


def _message(group: Group, body: bytes) -> bytes:
    return _LABEL + group.key.encode() + b"\0" + body
