"""What members ask of an authority: one question and one answer on a stream of its own.

    member -> authority     Enrol, Renew, Issue, Census, Expel
    authority -> authority  Sync
    authority -> member     Enrolled, Issued, Members, Expelled, Synced; Declined

Who asks is proved by the stream. A program that asks for the machine that it runs on shows that it
holds that one's key too: `proof` is its signature of `proof_message`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from swarm.errors import RemoteProtocolError

from ..membership.certificate import MAX_CREDENTIAL, Name, Role, Time
from .fields import Addresses, Count, Counter, Message, PeerId, Text

PROTOCOL = "/homeswarm/authority/1"

MAX_MEMBERS = 256
"""Members that one answer lists."""

_LABEL = b"homeswarm enrolment 1\0"

Credential = Annotated[bytes, msgspec.Meta(max_length=MAX_CREDENTIAL)]
Proof = Annotated[bytes, msgspec.Meta(max_length=64)]
MaybeName = Annotated[str, msgspec.Meta(max_length=64)]
Blob = Annotated[bytes, msgspec.Meta(max_length=512 * 1024)]


class Decline(StrEnum):
    """Why an authority does not do what it was asked."""

    SPENT = "spent"
    EXPIRED = "expired"
    REVOKED = "revoked"
    FOREIGN = "foreign"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"
    BUSY = "busy"


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What an invite is worth: its number at the authority that wrote it, and a secret."""

    number: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    secret: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Station(msgspec.Struct, frozen=True, array_like=True):
    """An authority, and where it is reached."""

    peer: PeerId
    addresses: Addresses = ()

    @property
    def places(self) -> tuple[str, ...]:
        """Its addresses, with its id."""
        bare = (address.partition("/p2p/")[0] for address in self.addresses)
        return tuple(f"{address}/p2p/{self.peer}" for address in bare)


class Enrol(Message, frozen=True, tag="enrol"):
    """Asks to become a member, as `name` if the invite leaves that open."""

    subject: PeerId
    proof: Proof
    ticket: Ticket
    name: MaybeName = ""


class Renew(Message, frozen=True, tag="renew"):
    """Asks for a new certificate in place of this one, which may have expired."""

    subject: PeerId
    proof: Proof
    credential: Credential


class Enrolled(Message, frozen=True, tag="enrolled"):
    """A certificate, all authorities, and their lists of revocations."""

    credential: Credential
    group_name: MaybeName = ""
    stations: Annotated[tuple[Station, ...], msgspec.Meta(max_length=16)] = ()
    revocations: Annotated[tuple[Blob, ...], msgspec.Meta(max_length=16)] = ()


class Issue(Message, frozen=True, tag="issue"):
    """Asks for an invite that `uses` machines can use until `expires`; for admins."""

    credential: Credential
    role: Role
    name: MaybeName
    uses: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    expires: Time


class Issued(Message, frozen=True, tag="issued"):
    """The invite, as one line."""

    invite: Annotated[str, msgspec.Meta(max_length=8192)]


class Census(Message, frozen=True, tag="census"):
    """Asks who belongs to the group, and which invites are open; for admins."""

    credential: Credential
    start: Count = 0


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One member; `revoked` is when it was thrown out, 0 if it was not.

    `issuer` is the authority that has admitted it, as what it is.
    """

    member: PeerId
    name: Name
    roles: Annotated[tuple[Role, ...], msgspec.Meta(max_length=len(Role))]
    joined: Time
    renewed: Time
    expires: Time
    revoked: Time = 0.0
    issuer: PeerId = ""


class OpenInvite(msgspec.Struct, frozen=True, array_like=True):
    """An invite that has been written here; `uses` of it are left."""

    number: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    role: Role
    name: MaybeName
    uses: Count
    expires: Time
    revoked: Time = 0.0


class Members(Message, frozen=True, tag="members"):
    """Members from `Census.start` on; with fewer than `total`, there are more to be asked for."""

    total: Count
    members: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_MEMBERS)]
    invites: Annotated[tuple[OpenInvite, ...], msgspec.Meta(max_length=MAX_MEMBERS)] = ()


class Expel(Message, frozen=True, tag="expel"):
    """Throws out a member, or takes back an invite, by its name or id; for admins."""

    credential: Credential
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Expelled(Message, frozen=True, tag="expelled"):
    """Whom and what that was."""

    members: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_MEMBERS)] = ()
    invites: Count = 0


class Sync(Message, frozen=True, tag="sync"):
    """Asks another authority for what has changed since its `change`; for authorities.

    `addresses` are where it may ask in return.
    """

    credential: Credential
    change: Counter = 0
    addresses: Addresses = ()


class Synced(Message, frozen=True, tag="synced"):
    """What has changed up to `change`; if `more`, there is more to be asked for.

    With `credential` the authority that was asked shows that it is one.
    """

    credential: Credential
    change: Counter
    members: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_MEMBERS)] = ()
    more: bool = False


class Declined(Message, frozen=True, tag="declined"):
    """The authority does not do it."""

    why: Decline
    message: Text = ""


Question = Enrol | Renew | Issue | Census | Expel | Sync
Answer = Enrolled | Issued | Members | Expelled | Synced | Declined

_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def proof_message(group_key: str, asker: str, authority: str) -> bytes:
    """What the subject signs, so that `asker` (who has proved itself) may speak for it there."""
    return _LABEL + b"\0".join(part.encode() for part in (group_key, asker, authority))


def encode(message: Message) -> bytes:
    """A question or an answer as a frame's header."""
    return _encoder.encode(message)


def decode_question(header: bytes) -> Question:
    """What a member asks; raises `RemoteProtocolError` on anything else."""
    try:
        return _questions.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"question not understood: {error}") from error


def decode_answer(header: bytes) -> Answer:
    """What an authority answers; raises `RemoteProtocolError` on anything else."""
    try:
        return _answers.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"answer not understood: {error}") from error
