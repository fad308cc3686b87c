"""A program's registration: how it becomes a member when it starts, and stays one while it runs."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from swarm.directory import Directory, Shelf
from swarm.errors import ConfigError, Lapse, MembershipError, PeerError, SwarmError
from swarm.invite import Invite

from ..transport import Signer, Transport
from ..wire.enrolment import Station
from . import enrolment
from .certificate import ROLES, Role, Standing
from .membership import Membership, certify_process
from .papers import Cabinet, Papers
from .trust import Trust

logger = logging.getLogger(__name__)

_LOOK_INTERVAL = 10.0
"""Seconds between two looks at what authorities have published."""

_RETRY = 30.0
"""Seconds after which a renewal that failed is tried again."""

_DOUBT = 30.0
"""Seconds for which one answer of an authority settles all doubts: any member can raise them. That
we are out is heard sooner by the directory and over links."""

_decoder = msgspec.msgpack.Decoder(Station)


@dataclass(frozen=True)
class Applicant:
    """Who wants to be a member, as what.

    `subject` is the key that the group knows, or is to know; `name` is what it wishes to be called.
    Its papers are kept in `cabinet`; without one it is somebody new each time. A program whose
    `process` key is another one gets a certificate by the subject's.
    """

    subject: Signer
    process: Signer
    role: Role
    name: str = ""
    cabinet: Cabinet | None = None


class Registration:
    """Our membership, by the papers of this machine. Made by `obtain`; `keep` keeps it true."""

    def __init__(
        self, transport: Transport, applicant: Applicant, trust: Trust, papers: Papers
    ) -> None:
        self._transport = transport
        self._applicant = applicant
        self._trust = trust
        self._papers = papers
        self._own = Membership(trust, papers.credential, applicant.subject.sign)
        self._wake = asyncio.Event()
        self._doubted = False
        self._asked_at = float("-inf")
        self.membership = Membership(trust, self._credential(), applicant.process.sign)
        self.membership.watch(self._doubt)
        trust.watch(self._wake.set)

    @classmethod
    async def obtain(
        cls, transport: Transport, invite: Invite, applicant: Applicant, trust: Trust
    ) -> Registration:
        """Registers by the papers that are there, by renewing them, or else by the invite.

        Raises `ConfigError` that says what is wrong with the invite or the papers,
        `MembershipError` if this machine was thrown out, and `Unreachable` where an authority is
        needed and none answers.
        """
        cabinet = applicant.cabinet
        if cabinet is None:
            papers = await enrolment.enrol(
                transport, applicant.subject, invite, trust, applicant.name
            )
        else:
            # Programs that start together are to redeem an invite once.
            async with cabinet.held():
                papers = await _papers(transport, invite, applicant, trust, cabinet)
        _learn(trust, papers)
        registration = cls(transport, applicant, trust, papers)
        trust.check_standing(registration.membership.standing)
        return registration

    @property
    def stations(self) -> tuple[Station, ...]:
        """Where authorities are reached."""
        return self._papers.stations

    async def verify(self) -> None:
        """Asks an authority whether we still are a member; raises `MembershipError` if not.

        Nothing happens if none answers.
        """
        with suppress(PeerError):
            await self._renew()

    async def keep(self, directory: Directory) -> None:
        """Renews the certificate in time and hears of revocations; only ends by raising.

        Where the authority that has signed it was thrown out, another one is asked at once.

        Raises `MembershipError` once we are thrown out. While no authority answers, the certificate
        is used as long as it lasts.
        """
        clock = asyncio.get_running_loop().time
        retry_at = 0.0
        while True:
            await self._hear(directory)
            self._check()
            due = self._is_due() and clock() >= retry_at
            doubted, self._doubted = self._doubted, False
            if due or (doubted and clock() >= self._asked_at + _DOUBT):
                try:
                    await self._renew()
                except PeerError as error:
                    retry_at = clock() + _RETRY
                    logger.warning("certificate not renewed why=%s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_INTERVAL):
                    await self._wake.wait()
            self._wake.clear()

    def look_again(self) -> None:
        """This machine was away: whether the certificate is to be renewed is seen at once."""
        self._wake.set()

    def _doubt(self) -> None:
        self._doubted = True
        self._wake.set()

    def _check(self) -> None:
        """Raises `MembershipError` where we have been thrown out ourselves."""
        ours = self._own.standing
        if self._trust.has_revoked(ours.member):
            raise MembershipError(Lapse.REVOKED, f"{ours.name} was removed from the group")

    def _is_due(self) -> bool:
        """Half way through: then there is as much time again to find an authority."""
        ours = self._own.standing
        try:
            self._trust.check_standing(ours)
        except MembershipError:
            return True
        return self._trust.clock() >= ours.begins + (ours.expires - ours.begins) / 2

    async def _renew(self) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        applicant, before = self._applicant, self._papers
        papers = await enrolment.renew(self._transport, applicant.subject, self._trust, before)
        self._adopt(papers)
        ours = self._own.standing
        logger.info("certificate renewed name=%s expires=%.0f", ours.name, ours.expires)

    def _adopt(self, papers: Papers) -> None:
        if papers == self._papers:
            return
        renewed = papers.credential != self._papers.credential
        self._papers = papers
        _learn(self._trust, papers)
        if renewed:
            self._own.adopt(papers.credential)
            self.membership.adopt(self._credential())
        self._save()

    def _credential(self) -> bytes:
        if self._applicant.process.peer_id == self._applicant.subject.peer_id:
            return self._papers.credential
        return certify_process(self._own, self._applicant.process.peer_id, self._trust.clock)

    def _save(self) -> None:
        if self._applicant.cabinet is not None:
            try:
                self._applicant.cabinet.save(self._papers)
            except ConfigError as error:
                logger.warning("papers not kept why=%s", error)

    async def _hear(self, directory: Directory) -> None:
        """Takes what authorities have published, and remembers it."""
        try:
            async with asyncio.timeout(_LOOK_INTERVAL):
                lists = await directory.read(Shelf.REVOCATIONS)
                stations = await directory.read(Shelf.AUTHORITIES)
        except (SwarmError, TimeoutError) as error:
            logger.debug("nothing heard of authorities why=%s", error)
            return
        for signed in lists.values():
            with suppress(MembershipError):
                self._trust.learn(signed)
        known = {each.peer: each for each in self._papers.stations}
        for member, record in stations.items():
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                station = _decoder.decode(record)
                if station.peer == member and station.addresses:
                    known[member] = station
        standing = [each for peer, each in known.items() if not self._trust.has_revoked(peer)]
        kept = tuple(standing[-enrolment.MAX_STATIONS :])
        heard = {"stations": kept, "revocations": self._trust.lists}
        self._adopt(msgspec.structs.replace(self._papers, **heard))


def _learn(trust: Trust, papers: Papers) -> None:
    for signed in papers.revocations:
        with suppress(MembershipError):
            trust.learn(signed)


async def _papers(
    transport: Transport, invite: Invite, applicant: Applicant, trust: Trust, cabinet: Cabinet
) -> Papers:
    """This machine's papers, which allow it to be what it wants to be."""
    papers = cabinet.load()
    if papers is not None:
        _learn(trust, papers)
        papers = await _valid(transport, applicant, trust, cabinet, papers)
        standing = trust.check(papers.credential, applicant.subject.peer_id)
        if standing.may(applicant.role):
            cabinet.save(papers)
            return papers
    try:
        papers = await enrolment.enrol(transport, applicant.subject, invite, trust, applicant.name)
    except ConfigError as error:
        if applicant.role in ROLES[invite.role]:
            raise
        # Used up by this machine's other programs, as a rule; a new one of its kind would not do.
        raise ConfigError(
            f"{error} (made with --role {applicant.role}: this one is for a {invite.role})"
        ) from error
    cabinet.save(papers)
    standing = trust.check(papers.credential, applicant.subject.peer_id)
    if not standing.may(applicant.role):
        raise ConfigError(_insufficient(standing, applicant.role))
    return papers


async def _valid(
    transport: Transport, applicant: Applicant, trust: Trust, cabinet: Cabinet, papers: Papers
) -> Papers:
    subject = applicant.subject
    try:
        trust.check(papers.credential, subject.peer_id)
    except MembershipError as error:
        if error.lapse not in (Lapse.EXPIRED, Lapse.REVOKED):
            raise ConfigError(
                f"this machine's membership cannot be used: {error}; restore the identity that it"
                f" belongs to, or delete {cabinet.place} and join with a new invite"
            ) from error
        # An authority knows whether that is the end, or whether it was only away for long.
        try:
            return await enrolment.renew(transport, subject, trust, papers)
        except PeerError:
            # Nobody answers, but the papers say it, too.
            if trust.has_revoked(subject.peer_id):
                raise error from None
            raise
    return papers


def _insufficient(standing: Standing, role: Role) -> str:
    has = ", ".join(sorted(standing.roles))
    return (
        f"this machine has not the role {role} in the group (it is {standing.name}: {has}); ask for"
        f" an invite made with --role {role}"
    )
