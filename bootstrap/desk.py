"""The desk: where an authority is asked, one question and one answer on each stream.

Strangers come here to become members, so nothing of theirs is believed before it is proved, and no
payload of theirs is read. The ledger waits for the disk and for other processes: that happens in
threads, and nobody else waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from swarm.errors import (
    ConfigError,
    Lapse,
    MembershipError,
    Misbehaved,
    RemoteProtocolError,
    Unreachable,
)
from swarm.membership.certificate import Role, Standing, above
from swarm.membership.trust import Trust
from swarm.transport import Stream, Transport
from swarm.wire.enrolment import (
    MAX_MEMBERS,
    PROTOCOL,
    Answer,
    Census,
    Decline,
    Declined,
    Enrol,
    Enrolled,
    Entry,
    Expel,
    Issue,
    Issued,
    Members,
    Question,
    Renew,
    Station,
    Sync,
    Synced,
    decode_question,
    encode,
    proof_message,
)

from .authority import Authority
from .callers import CallerConfig, Callers
from .denial import NotGranted

logger = logging.getLogger(__name__)

_PATIENCE = 8.0
"""Seconds for one question and its answer; who asks waits a little longer."""

_PAGE = 28 * 1024
"""Bytes of members in one answer. With the invites it fits into a frame's header."""

_LISTS = 40 * 1024
"""Bytes of revocations that come with a certificate; the others are in the directory."""

_STATIONS = 16 * 1024
"""Bytes of other authorities' addresses that come with it, as they have told them."""

_MAX_MESSAGE = 1024

DECLINES: dict[Lapse, Decline] = {
    Lapse.FORGED: Decline.FORBIDDEN,
    Lapse.FOREIGN: Decline.FOREIGN,
    Lapse.EXPIRED: Decline.EXPIRED,
    Lapse.REVOKED: Decline.REVOKED,
}

_STRANGE = (Decline.FOREIGN, Decline.UNKNOWN, Decline.BUSY)

T = TypeVar("T")


class Desk:
    """An authority's desk; `serve` opens it. `on_change` is called when a member was expelled."""

    def __init__(
        self,
        authority: Authority,
        trust: Trust,
        *,
        config: CallerConfig | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._authority = authority
        self._trust = trust
        self._on_change = on_change
        self._callers = Callers(config or CallerConfig(), asyncio.get_running_loop().time)
        self.answers: Counter[tuple[str, str]] = Counter()
        """Questions by their kind, and by what became of each: granted, or why it was not."""

    async def serve(self, transport: Transport) -> None:
        """Answers everybody who comes over this transport from now on."""
        await transport.serve(PROTOCOL, self._attend)

    async def _attend(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await stream.send(encode(await self._hear(stream)), b"")
        except TimeoutError as error:
            raise Unreachable(stream.peer, "takes too long to ask") from error

    async def _hear(self, stream: Stream) -> Answer:
        try:
            with self._callers.attended(stream.peer):
                header, _ = await stream.receive()
                return await self._answer(stream.peer, bytes(header))
        except NotGranted as error:
            self.answers["any", str(error.why)] += 1
            return Declined(error.why, str(error)[:_MAX_MESSAGE])

    async def _answer(self, peer: str, header: bytes) -> Answer:
        try:
            question = decode_question(header)
        except RemoteProtocolError as error:
            self._callers.refused(peer)
            self.answers["any", "misbehaved"] += 1
            raise Misbehaved(peer, str(error)) from error
        answer = await self._judge(peer, question)
        result = str(answer.why) if isinstance(answer, Declined) else "granted"
        self.answers[type(question).__name__.lower(), result] += 1
        return answer

    async def _judge(self, peer: str, question: Question) -> Answer:
        try:
            return await self._decide(peer, question)
        except NotGranted as error:
            self._callers.refused(peer)
            # Strangers are to fill no logs; the others have had an invite or a certificate.
            level = logging.DEBUG if error.why in _STRANGE else logging.INFO
            logger.log(level, "declined peer=%s why=%s", peer, error.why)
            return Declined(error.why, str(error)[:_MAX_MESSAGE])
        except MembershipError as error:
            self._callers.refused(peer)
            logger.debug("declined peer=%s why=%s", peer, error)
            return Declined(DECLINES[error.lapse], str(error)[:_MAX_MESSAGE])
        except ConfigError as error:
            logger.error("the desk cannot work why=%s", error)
            return Declined(Decline.BUSY, "the bootstrap has a fault; its log says which")

    async def _decide(self, peer: str, question: Question) -> Answer:
        authority = self._authority
        match question:
            case Enrol(subject, proof, ticket, name):
                self._check_proof(peer, subject, proof)
                credential = await asyncio.to_thread(authority.redeem, ticket, subject, name)
                return await self._enrolled(credential)
            case Renew(subject, proof, shown):
                self._check_proof(peer, subject, proof)
                credential = await asyncio.to_thread(authority.renew, subject, shown)
                return await self._enrolled(credential)
            case Issue():
                return await self._issue(self._staff(peer, question.credential), question)
            case Census(credential, start):
                self._staff(peer, credential)
                return await self._census(start)
            case Expel(credential, name):
                by = self._staff(peer, credential)
                expelled = await asyncio.to_thread(lambda: authority.revoke(name, by=by))
                self._on_change()
                return expelled
            case Sync():
                return await self._sync(peer, question)

    def _check_proof(self, peer: str, subject: str, proof: bytes) -> None:
        message = proof_message(self._authority.group.key, peer, self._authority.peer_id)
        if not self._trust.verifies(message, proof, subject):
            raise NotGranted(
                Decline.FOREIGN,
                "what you have is of another group than this bootstrap, or not yours",
            )
        if subject != peer:
            self._callers.charge(subject)

    def _staff(self, peer: str, credential: bytes, role: Role = Role.ADMIN) -> Standing:
        """The member whose program asks for what is not for everybody, or who asks itself."""
        standing = self._trust.check(credential, peer)
        if not standing.may(role):
            raise NotGranted(Decline.FORBIDDEN, f"{standing.name} is no {role} of the group")
        if standing.member != peer:
            self._callers.charge(standing.member)
        # A program has fewer roles than its machine, in whose name it invites and throws out.
        return above(credential, self._trust.group, self._trust.verifies)

    async def _enrolled(self, credential: bytes) -> Enrolled:
        stations = await asyncio.to_thread(self._authority.stations)
        mine = await asyncio.to_thread(self._authority.revocations)
        nearest = _fitting(stations, lambda each: len(msgspec.msgpack.encode(each)), _STATIONS)
        lists = [mine, *(each for each in self._trust.lists if each != mine)]
        name = self._authority.group.name
        return Enrolled(credential, name, tuple(nearest), tuple(_fitting(lists, len, _LISTS)))

    async def _issue(self, by: Standing, question: Issue) -> Issued:
        def issue() -> str:
            invite = self._authority.invite(
                question.role,
                name=question.name,
                uses=question.uses,
                expires=question.expires,
                by=by,
            )
            return invite.encode()

        return Issued(await asyncio.to_thread(issue))

    async def _census(self, start: int) -> Members:
        members = await asyncio.to_thread(self._authority.members)
        page = members_page(members[start:])
        # All invites fit on one page.
        invites = () if start else await asyncio.to_thread(self._authority.invites)
        return Members(len(members), page, invites)

    async def _sync(self, peer: str, question: Sync) -> Synced:
        standing = self._staff(peer, question.credential, Role.AUTHORITY)
        if standing.member != peer:
            raise NotGranted(Decline.FORBIDDEN, "only an authority itself is told all")
        authority = self._authority
        if question.addresses:
            await asyncio.to_thread(authority.meet, Station(peer, question.addresses))
        changed = await asyncio.to_thread(authority.changes, question.change, MAX_MEMBERS + 1)
        page = members_page([entry for _, entry in changed])
        last = changed[len(page) - 1][0] if page else question.change
        return Synced(authority.credential, last, page, more=len(page) < len(changed))


def members_page(members: Sequence[Entry]) -> tuple[Entry, ...]:
    """As many of these, from the first on, as one answer holds."""
    size = lambda entry: len(msgspec.msgpack.encode(entry))  # noqa: E731
    return tuple(_fitting(members[:MAX_MEMBERS], size, _PAGE))


def _fitting(items: Iterable[T], size: Callable[[T], int], limit: int) -> list[T]:
    """The items up to the first one with which they are larger than that."""
    kept: list[T] = []
    for item in items:
        limit -= size(item)
        if limit < 0:
            break
        kept.append(item)
    return kept
