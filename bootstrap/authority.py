"""The authority: who may join a group, who stays, and who was thrown out.

Policy over the folder's keys, the ledger and a clock; it knows no network. Everything that it
grants is first in the ledger and then signed, so that whoever does not get the answer may ask again
and gets the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

import msgspec

from swarm.errors import Lapse, MembershipError
from swarm.invite import Invite
from swarm.membership.certificate import (
    CLOCK_TOLERANCE,
    ROLES,
    Certificate,
    Role,
    Standing,
    examine,
    issue,
)
from swarm.membership.revocation import MAX_REVOKED, Revocation, RevocationList, sign_list
from swarm.wire.enrolment import Decline, Entry, Expelled, OpenInvite, Station, Ticket

from . import merging, names, office
from .config import DAY, Terms
from .denial import NotGranted
from .invitations import TOO_DEEP, Invitations
from .ledger import Ledger, Line
from .office import AUTHORITY_LIFETIME, Office
from .search import exactly, find
from .vouching import Witness, exclude, is_vouched, take

logger = logging.getLogger(__name__)

_REMEMBERED = 30 * DAY
"""Seconds that somebody stays on the list of those thrown out, though its certificate has expired:
an authority that could not hear of it may have renewed that."""

_MAX_STATIONS = 16


class Authority:
    """The authority whose office this is; `clock` gives seconds since 1970.

    It may be used from any thread, and next to other processes that use the same folder. What it
    does not do it says in `NotGranted`; a damaged ledger is a `ConfigError`.
    """

    def __init__(
        self,
        seat: Office,
        ledger: Ledger,
        terms: Terms | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.group = seat.group
        self.credential = seat.credential
        self.me = seat.me
        self._seat = seat
        self._ledger = ledger
        self._terms = terms or Terms()
        self._clock = clock
        self._invitations = Invitations(seat, ledger, self._terms, clock)

    @classmethod
    def open(
        cls,
        folder: Path,
        terms: Terms | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> Authority:
        """The authority of a bootstrap's folder, whether that runs now or not.

        Raises `ConfigError` if no bootstrap has run there, or something is damaged.
        """
        seat = office.reopen(folder)
        return cls(seat, office.open_ledger(folder, seat.group, clock), terms, clock=clock)

    def __enter__(self) -> Authority:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the ledger; may be called again."""
        self._ledger.close()

    @property
    def peer_id(self) -> str:
        """The authority's own id."""
        return self.me.peer_id

    @property
    def now(self) -> float:
        """Seconds since 1970, as the authority counts them."""
        return self._clock()

    @property
    def change(self) -> int:
        """Grows whenever something about a member changes, in whatever process."""
        return self._ledger.change

    # Invites

    def invite(
        self,
        role: Role,
        *,
        name: str = "",
        uses: int = 1,
        expires: float | None = None,
        by: Standing | None = None,
    ) -> Invite:
        """Writes an invite for `uses` machines that is good until `expires` (since 1970).

        Without `expires`, for as long as the terms say. With a `name` they get that one, otherwise
        one that they wish. `by` is who asks for it, None for the owner of the folder.
        """
        if by is not None and not set(ROLES[role]) <= by.roles:
            raise NotGranted(Decline.FORBIDDEN, f"{by.name} may not invite anybody as {role}")
        with self._ledger.transaction():
            self._check_staff(by)
            author = "" if by is None else by.member
            return self._invitations.write(role, name, uses, expires, author)

    def first_invite(self) -> Invite:
        """The invite with which a group begins; while it is good it stays the same."""
        return self._invitations.first()

    def invites(self) -> tuple[OpenInvite, ...]:
        """The invites that can still be used. Each is redeemed only where it was written."""
        return tuple(
            OpenInvite(line.number, line.role, line.name, line.uses, line.expires, line.revoked)
            for line in self._invitations.open()
        )

    # Membership

    def redeem(self, ticket: Ticket, subject: str, wish: str = "") -> bytes:
        """The credential of a machine that comes with an invite.

        The caller knows that it is `subject` that asks. Who has redeemed the same invite before
        gets a certificate again, without another use of it: the answer may have been lost.
        """
        self._invitations.check_ticket(ticket)
        with self._ledger.transaction():
            line = self._invitations.find(ticket.number)
            before = self._ledger.member(subject)
            if before is not None and before.revoked:
                raise NotGranted(
                    Decline.FORBIDDEN,
                    f"this machine was removed from the group as {before.name}; to come back, it"
                    " needs a new identity and a new invite (delete the folder that it keeps its"
                    " identity in, or give it another one)",
                )
            is_new = before is None or not self._ledger.has_redeemed(line.number, subject)
            if is_new:
                self._invitations.check(line)
                self._ledger.spend(line.number, subject)
            if before is None or is_new or not is_vouched(self._ledger, before):
                before = self._admitted(line, subject, wish, before)
                logger.info("member joined name=%s peer=%s", before.name, subject)
            return self._certify(before)

    def renew(self, subject: str, credential: bytes) -> bytes:
        """A new credential for a machine that shows its old one, which may have expired.

        The caller knows that it is `subject` that asks. Raises `MembershipError` if it was never a
        member, and `NotGranted` if it is no longer.
        """
        shown = examine(credential, self.group, self.me.verifies)
        if shown.peer != subject:
            raise MembershipError(Lapse.FORGED, "this certificate is somebody else's")
        if shown.member != subject:
            why = "this certificate is a program's; the machine that it runs on renews it"
            raise NotGranted(Decline.FORBIDDEN, why)
        if subject in self._seat.standing.issuers:
            raise NotGranted(Decline.UNKNOWN, f"{shown.name} stands above this bootstrap")
        with self._ledger.transaction():
            entry = self._ledger.member(subject)
            if entry is None:
                entry = self._recognized(shown, credential)
                self._check_unheard(entry)
            if entry.revoked:
                raise NotGranted(Decline.REVOKED, f"{entry.name} was removed from the group")
            if not is_vouched(self._ledger, entry):
                raise NotGranted(
                    Decline.REVOKED,
                    f"the bootstrap that let {entry.name} in was removed from the group; ask for a"
                    " new invite",
                )
            if Role.AUTHORITY in entry.roles and entry.issuer != self.peer_id:
                # What others tell of admissions may be a lie. This one would outlive who told it.
                why = f"{entry.name} is a bootstrap: only the one that let it in renews that"
                raise NotGranted(Decline.UNKNOWN, why)
            return self._certify(entry)

    def members(self) -> tuple[Entry, ...]:
        """All members that there ever were, in the order in which they joined."""
        return tuple(self._ledger.members())

    def _admitted(self, line: Line, subject: str, wish: str, before: Entry | None) -> Entry:
        """The member that an invite makes of somebody, who keeps what it was before."""
        roles = set(ROLES[line.role])
        now = self._clock()
        if before is not None:
            if is_vouched(self._ledger, before):
                kept = before.issuer == self.peer_id
                roles |= set(before.roles) - (set() if kept else {Role.AUTHORITY})
            return msgspec.structs.replace(
                before, roles=merging.ordered(roles), issuer=self.peer_id
            )
        wanted = line.name or names.clean(wish) or str(line.role)
        name = names.unique(wanted, self._is_taken)
        ordered = merging.ordered(roles)
        return Entry(subject, name, ordered, now, now, now, issuer=self.peer_id)

    def _recognized(self, shown: Standing, credential: bytes) -> Entry:
        """A member that another authority has admitted without our having heard of it yet."""
        name = names.unique(names.clean(shown.name) or "member", self._is_taken)
        roles = merging.ordered(shown.roles)
        begins, expires = shown.begins, shown.expires
        return Entry(
            shown.peer,
            name,
            roles,
            begins,
            begins,
            expires,
            issuer=Witness.of(credential).certified[shown.peer],
        )

    def _check_unheard(self, entry: Entry) -> None:
        """Takes a certificate's word for it only where we knew if that were not true any more.

        Only authorities that are known can be known to have been thrown out. Whoever was removed
        after its certificate was made is on lists for so long; a new ledger knows no more yet.
        """
        above = self._seat.standing.issuers
        heard = entry.issuer in above or self._ledger.member(entry.issuer) is not None
        if not heard or self._clock() > entry.renewed + _REMEMBERED:
            raise NotGranted(
                Decline.UNKNOWN,
                f"{entry.name}, or the bootstrap that let it in, is not known here yet; try again"
                " in a minute",
            )

    def _certify(self, entry: Entry) -> bytes:
        """Notes the new certificate in the ledger, and signs it."""
        if Role.AUTHORITY in entry.roles and not self._seat.may_deputize:
            raise NotGranted(Decline.UNKNOWN, TOO_DEEP)
        now = self._clock()
        expires = now + self._lifetime(entry)
        until = max(expires, entry.expires)
        self._ledger.write(msgspec.structs.replace(entry, renewed=now, expires=until))
        certificate = Certificate(entry.member, self.peer_id, entry.name, entry.roles, now, expires)
        return issue(certificate, self.group, self.me.sign, self.credential)

    def _lifetime(self, entry: Entry) -> float:
        is_authority = Role.AUTHORITY in entry.roles
        return AUTHORITY_LIFETIME if is_authority else self._terms.lifetime

    def _is_taken(self, name: str) -> bool:
        return self._ledger.living(name) is not None

    # Revocation

    def revoke(self, name: str, *, by: Standing | None = None, exact: bool = False) -> Expelled:
        """Throws out the member, or takes back the invites, that `name` means.

        It is a name, a peer id or one end of it, or an invite's number; if `exact`, a whole id or
        number. Invites that a member has come with or had written, and that are still good, are
        taken back with it: it could come back by them.
        `by` is who asks for it, None for the owner of the folder.
        """
        now = self._clock()
        with self._ledger.transaction():
            self._check_staff(by)
            search = exactly if exact else find
            found = search(name, self._ledger.members(), self._invitations.open())
            numbers = {line.number for line in found.invites}
            for number in numbers:
                self._ledger.withdraw(number)
            if found.member is not None:
                self._check_target(found.member, by)
                numbers |= self._expel(found.member, now)
        members = () if found.member is None else (found.member.name,)
        logger.info("revoked members=%s invites=%d", ",".join(members), len(numbers))
        return Expelled(members, len(numbers))

    def revocations(self) -> bytes:
        """The signed list of those who were thrown out."""
        number, gone = self._ledger.revoked()
        now = self._clock()
        listed = [
            Revocation(entry.member, entry.name, entry.revoked, until)
            for entry in gone
            if (until := max(entry.expires, entry.revoked + _REMEMBERED)) > now - CLOCK_TOLERANCE
            and entry.member not in self._seat.standing.issuers
        ]
        if len(listed) > MAX_REVOKED:
            logger.warning("more were removed than a list holds num=%d", len(listed))
        content = RevocationList(number, tuple(listed[:MAX_REVOKED]))
        return sign_list(content, self.group, self.me.sign, self.credential)

    def _check_staff(self, by: Standing | None) -> None:
        """Whoever was removed this moment does nothing more, though lists do not say so yet."""
        entry = None if by is None else self._ledger.member(by.member)
        if entry is not None and entry.revoked:
            raise NotGranted(Decline.REVOKED, f"{entry.name} was removed from the group")

    def _check_target(self, target: Entry, by: Standing | None) -> None:
        if target.member == self.peer_id or target.member in self._seat.standing.issuers:
            raise NotGranted(
                Decline.FORBIDDEN,
                f"{target.name} is this bootstrap, or one above it: it cannot remove that",
            )
        if by is not None and not set(target.roles) <= by.roles:
            why = f"{by.name} may not remove {target.name}, who may do more"
            raise NotGranted(Decline.FORBIDDEN, why)

    def _expel(self, target: Entry, now: float) -> set[bytes]:
        """Throws out a member; returns the invites by which it could come back."""
        until = max(target.expires, now + self._lifetime(target))
        # A clock that stands at 1970 must not make this a member again.
        revoked = max(now, 1.0)
        self._ledger.write(msgspec.structs.replace(target, revoked=revoked, expires=until))
        return exclude(self._ledger, target.member)

    # Other authorities

    def stations(self) -> tuple[Station, ...]:
        """The authorities that are known, this one first, and where they are reached."""
        known = self._ledger.stations()
        known.sort(key=lambda station: station.peer != self.peer_id)
        return tuple(known[:_MAX_STATIONS])

    def meet(self, station: Station) -> None:
        """Notes where an authority, perhaps this one, is reached."""
        with self._ledger.transaction():
            entry = self._ledger.member(station.peer)
            if entry is None or not entry.revoked:
                self._ledger.meet(station)

    def enter(self) -> None:
        """Enters the authority itself as a member, so that others see it and its name."""
        mine = self._seat.standing
        with self._ledger.transaction():
            if self._ledger.member(self.peer_id) is None:
                self._ledger.write(self._recognized(mine, self.credential))

    def hear(self, revocations: Iterable[Revocation]) -> None:
        """Throws out whom other authorities have thrown out, by lists that were checked."""
        latest = max(self._clock(), 1.0)
        for each in revocations:
            known = self._ledger.member(each.member)
            if known is not None and known.revoked:
                continue
            with self._ledger.transaction():
                entry = self._ledger.member(each.member) or Entry(
                    each.member, names.clean(each.name) or "member", (), each.time, 0, each.until
                )
                logger.info("member revoked elsewhere name=%s", entry.name)
                self._expel(entry, min(each.time, latest))

    def changes(self, since: int, limit: int) -> list[tuple[int, Entry]]:
        """The next entries that have changed after `since`, for another authority."""
        return self._ledger.changed(since, limit)

    def merge(self, credential: bytes, entries: Iterable[Entry]) -> None:
        """Takes in what another authority knows of members; its credential was checked."""
        # Lists begin with the last one that was removed: nobody is removed later than now.
        latest = max(self._clock(), 1.0)
        replace = msgspec.structs.replace
        told = [replace(each, revoked=min(each.revoked, latest)) for each in entries]
        take(self._ledger, self.peer_id, Witness.of(credential), told)
