"""What an admin asks of its group's authorities over the network: invites, members, expulsions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from swarm.directory import Directory, Shelf
from swarm.errors import (
    Busy,
    Lapse,
    MembershipError,
    Misbehaved,
    PeerError,
    RequestError,
    Unreachable,
)

from ..invite import Invite
from ..transport import Transport
from ..wire.enrolment import (
    Answer,
    Census,
    Decline,
    Declined,
    Entry,
    Expel,
    Expelled,
    Issue,
    Issued,
    Members,
    OpenInvite,
    Question,
    Station,
)
from .certificate import Role
from .enrolment import ask
from .membership import Membership

_LAPSES = {
    Decline.EXPIRED: Lapse.EXPIRED,
    Decline.REVOKED: Lapse.REVOKED,
    Decline.FOREIGN: Lapse.FOREIGN,
}
"""Where we are refused for what we are, not for what we have asked."""


_stations = msgspec.msgpack.Decoder(Station)


@dataclass(frozen=True)
class Roll:
    """Who belongs to a group, and which invites are open; `silent` are authorities not heard.

    `reports` counts by member those who have caught it at wrong work; None where nobody could look.
    """

    members: tuple[Entry, ...]
    invites: tuple[OpenInvite, ...]
    silent: tuple[Station, ...] = ()
    reports: Mapping[str, int] | None = None


async def stations(directory: Directory, invite: Invite) -> tuple[Station, ...]:
    """Where a group's authorities are: those that the invite names, and those that say so."""
    known = {each.peer: Station(each.peer, each.addresses) for each in invite.bootstraps}
    for member, record in (await directory.read(Shelf.AUTHORITIES)).items():
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            station = _stations.decode(record)
            if station.peer == member and station.addresses:
                known[member] = station
    return tuple(known.values())


class Administration:
    """The authorities of a group at these `stations`, as an admin asks them.

    Each knows all members, but only the invites that it has written itself.
    """

    def __init__(
        self, transport: Transport, membership: Membership, stations: Sequence[Station]
    ) -> None:
        self._transport = transport
        self._membership = membership
        self._stations = tuple(stations)

    async def invite(self, role: Role, *, name: str, uses: int, expires: float) -> Invite:
        """A new invite, of the first authority that answers; `expires` is seconds since 1970.

        Raises `RequestError` if the authority does not do it, `MembershipError` if we are no member
        any more, and `Unreachable` if none answers.
        """
        question = Issue(self._membership.credential, role, name, uses, expires)
        last: PeerError | None = None
        for station in self._stations:
            try:
                answer = await self._ask(station, question)
            except PeerError as error:
                last = error
            else:
                if not isinstance(answer, Issued):
                    raise Misbehaved(station.peer, "an authority answers something else")
                return Invite.decode(answer.invite)
        raise last or self._nobody()

    async def roll(self) -> Roll:
        """All members and open invites; raises like `invite`."""
        members: dict[str, Entry] = {}
        invites: dict[bytes, OpenInvite] = {}
        silent = []
        for station in self._stations:
            try:
                found = await self._census(station)
            except PeerError:
                silent.append(station)
                continue
            # Thrown out by one authority is thrown out, whatever another has heard of it.
            for entry in found.members:
                known = members.get(entry.member)
                if known is None or (entry.revoked, entry.renewed) > (known.revoked, known.renewed):
                    members[entry.member] = entry
            invites |= {each.number: each for each in found.invites}
        if len(silent) == len(self._stations):
            raise self._nobody()
        return Roll(tuple(members.values()), tuple(invites.values()), tuple(silent))

    async def revoke(self, name: str) -> Expelled:
        """Throws out a member, or takes back invites, by name or id; raises like `invite`.

        `RequestError` if no authority that answers knows anything of that name, or all say that it
        was removed before.
        """
        members: dict[str, None] = {}
        num_invites, num_silent = 0, 0
        unknown: RequestError | None = None
        for station in self._stations:
            try:
                answer = await self._ask(station, Expel(self._membership.credential, name))
            except _NothingError as error:
                unknown = error
            except PeerError:
                num_silent += 1
            else:
                if not isinstance(answer, Expelled):
                    raise Misbehaved(station.peer, "an authority answers something else")
                members |= dict.fromkeys(answer.members)
                num_invites += answer.invites
        if num_silent == len(self._stations):
            raise self._nobody()
        if unknown is not None and not members and not num_invites:
            raise unknown
        return Expelled(tuple(members), num_invites)

    async def _census(self, station: Station) -> Roll:
        members: list[Entry] = []
        invites: list[OpenInvite] = []
        while True:
            question = Census(self._membership.credential, len(members))
            answer = await self._ask(station, question)
            if not isinstance(answer, Members):
                raise Misbehaved(station.peer, "an authority answers something else")
            members += answer.members
            invites += answer.invites
            if len(members) >= answer.total or not answer.members:
                return Roll(tuple(members), tuple(invites))

    async def _ask(self, station: Station, question: Question) -> Answer:
        answer = await ask(self._transport, station, question)
        if isinstance(answer, Declined):
            if isinstance(question, Expel) and answer.why in (Decline.UNKNOWN, Decline.REVOKED):
                raise _NothingError(answer.message or f"{question.name} is {answer.why}")
            raise _refusal(station, answer)
        return answer

    def _nobody(self) -> Unreachable:
        peer = self._stations[0].peer if self._stations else ""
        return Unreachable(peer, "no bootstrap of the group answers")


class _NothingError(RequestError):
    """There is nothing of that name to be removed."""


def _refusal(station: Station, declined: Declined) -> Exception:
    if declined.why is Decline.BUSY:
        return Busy(station.peer, declined.message or "the authority is busy")
    if lapse := _LAPSES.get(declined.why):
        return MembershipError(lapse, declined.message or f"membership {declined.why}")
    return RequestError(declined.message or f"the authority declines: {declined.why}")
