"""Becoming a member, and staying one: what we ask of a group's authorities."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from swarm.errors import (
    ConfigError,
    Lapse,
    MembershipError,
    Misbehaved,
    PeerError,
    RemoteProtocolError,
    SwarmError,
    Unreachable,
)
from swarm.invite import Invite

from ..group import Group
from ..transport import Signer, Transport
from ..wire.enrolment import (
    PROTOCOL,
    Answer,
    Decline,
    Declined,
    Enrol,
    Enrolled,
    Question,
    Renew,
    Station,
    decode_answer,
    encode,
    proof_message,
)
from .papers import Papers
from .trust import Trust

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
MAX_STATIONS = 16
"""Authorities that a member remembers."""

INVITE_FAULTS = {
    Decline.SPENT: "this invite has been used up; ask for a new one",
    Decline.EXPIRED: "this invite has expired; ask for a new one",
    Decline.REVOKED: "this invite was taken back; ask for a new one",
    Decline.FOREIGN: "this invite is of another group than the bootstrap at its address",
    Decline.UNKNOWN: "the bootstrap does not know this invite: it was not written there",
}
"""What is wrong with an invite that was declined."""


async def ask(transport: Transport, station: Station, question: Question) -> Answer:
    """Puts one question to an authority; raises `PeerError` if it does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE):
            stream = await transport.open(station.peer, PROTOCOL, station.addresses)
            try:
                await stream.send(encode(question), b"")
                header, _ = await stream.receive()
            finally:
                await stream.aclose()
    except TimeoutError as error:
        raise Unreachable(station.peer, "did not answer in time") from error
    try:
        return decode_answer(bytes(header))
    except RemoteProtocolError as error:
        raise Misbehaved(station.peer, str(error)) from error


async def enrol(
    transport: Transport, subject: Signer, invite: Invite, trust: Trust, name: str
) -> Papers:
    """Redeems an invite for `subject`, the key of this machine.

    Raises `ConfigError` that says what is wrong with the invite, `MembershipError` if the machine
    was thrown out, and `Unreachable` if the bootstrap that has written the invite does not answer.
    """
    writer = invite.bootstraps[0]
    station = Station(writer.peer, writer.addresses)
    proof = prove(transport, subject, invite.group, station)
    try:
        answer = await ask(transport, station, Enrol(subject.peer_id, proof, invite.ticket, name))
    except Unreachable as error:
        raise Unreachable(station.peer, _away(station, error)) from error
    match answer:
        case Enrolled():
            others = [Station(each.peer, each.addresses) for each in invite.bootstraps]
            return _papers(answer, others, subject, station, trust)
        case Declined(why, message) if why in INVITE_FAULTS:
            raise ConfigError(message or INVITE_FAULTS[why])
        case Declined(Decline.FORBIDDEN, message):
            raise MembershipError(Lapse.REVOKED, message or "this machine was thrown out")
        case Declined(_, message):
            raise Unreachable(station.peer, message or "takes nobody in now")
        case _:
            raise Misbehaved(station.peer, f"answered by {type(answer).__name__}")


async def renew(transport: Transport, subject: Signer, trust: Trust, papers: Papers) -> Papers:
    """New papers for `subject` from whichever authority gives them first.

    Raises `MembershipError` if one says that it was thrown out and none renews it, `Unreachable` if
    none answers.
    """
    failure: SwarmError = Unreachable("", "no bootstrap of the group is known")
    for station in papers.stations:
        if trust.has_revoked(station.peer):
            continue
        proof = prove(transport, subject, trust.group, station)
        question = Renew(subject.peer_id, proof, papers.credential)
        try:
            answer = await ask(transport, station, question)
            if isinstance(answer, Enrolled):
                return _papers(answer, papers.stations, subject, station, trust)
        except PeerError as error:
            refusal: SwarmError = error
        else:
            refusal = _refusal(station, answer)
        # That we are out is not taken from one alone: it may be out itself by now. It counts more
        # than that others do not answer.
        if not isinstance(failure, MembershipError):
            failure = refusal
    raise failure


def _refusal(station: Station, answer: Answer) -> SwarmError:
    match answer:
        case Declined(Decline.REVOKED | Decline.FORBIDDEN, message):
            why = message or "this machine was removed from the group"
            return MembershipError(Lapse.REVOKED, why)
        case Declined(_, message):
            return Unreachable(station.peer, message or "does not renew now")
        case _:
            return Misbehaved(station.peer, f"answered by {type(answer).__name__}")


def _away(station: Station, error: Unreachable) -> str:
    """Why nobody can join at this moment, or with this invite."""
    where = ", ".join(station.addresses)
    # libp2p's words: it has reached somebody, who has proved to be another one.
    if "peer id mismatch" in str(error):
        return (
            f"another one answers at {where} than the bootstrap that has written this invite; ask"
            " for a new one"
        )
    return (
        f"the bootstrap that has written this invite does not answer at {where}; it must run while"
        f" somebody joins ({error})"
    )


def _papers(
    answer: Enrolled, known: Sequence[Station], subject: Signer, station: Station, trust: Trust
) -> Papers:
    try:
        trust.check(answer.credential, subject.peer_id)
    except MembershipError as error:
        why = f"gave a certificate that does not hold: {error}"
        if error.lapse is Lapse.EXPIRED:
            why += " (is this machine's clock right, and the bootstrap's?)"
        raise Misbehaved(station.peer, why) from error
    stations = {each.peer: each for each in (*known, *answer.stations)}
    # Those that the authority knows come first: it has just heard of them.
    order = dict.fromkeys((*(each.peer for each in answer.stations), *stations))
    kept = tuple(stations[peer] for peer in order if not trust.has_revoked(peer))[:MAX_STATIONS]
    return Papers(answer.credential, answer.group_name, kept, answer.revocations)


def prove(transport: Transport, subject: Signer, group: Group, station: Station) -> bytes:
    """What shows a station that our transport's id speaks for `subject`."""
    return subject.sign(proof_message(group.key, transport.peer_id, station.peer))
