"""Invitations: the invites that one authority has written, and what each is still good for."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable

from swarm import identity
from swarm.errors import ConfigError
from swarm.invite import Bootstrap, Invite
from swarm.membership.certificate import Role
from swarm.wire.enrolment import Decline, Station, Ticket

from . import names
from .config import MAX_USES, MAX_VALIDITY, Terms
from .denial import NotGranted
from .ledger import Ledger, Line
from .office import Office

logger = logging.getLogger(__name__)

MAX_OPEN = 64
"""Invites that are open at once."""

TOO_DEEP = "too many bootstraps stand above this one: let one of those invite another"

_MAX_BOOTSTRAPS = 4
_MAX_ADDRESSES = 8
_MAX_OTHERS_ADDRESSES = 3
_SECRET_LEN = 16
_NUMBER_LEN = 8


class Invitations:
    """The invites of this office. A ticket is good only here, where its uses are counted."""

    def __init__(
        self, seat: Office, ledger: Ledger, terms: Terms, clock: Callable[[], float]
    ) -> None:
        self._seat = seat
        self._ledger = ledger
        self._terms = terms
        self._clock = clock
        self._key = seat.me.derive(b"homeswarm invites")

    def write(
        self, role: Role, name: str, uses: int, expires: float | None, author: str = ""
    ) -> Invite:
        """A new invite; without `expires` (since 1970) it is good for as long as the terms say.

        `author` is the admin that asks for it, nothing where the folder's owner does.
        """
        now = self._clock()
        expires = now + self._terms.validity if expires is None else expires
        if names.clean(name) != name.strip():
            raise NotGranted(Decline.FORBIDDEN, "a name has at most 64 characters, all printable")
        if not 1 <= uses <= MAX_USES:
            raise NotGranted(Decline.FORBIDDEN, f"an invite has between 1 and {MAX_USES} uses")
        if not now < expires <= now + MAX_VALIDITY:
            raise NotGranted(Decline.FORBIDDEN, "an invite expires after now, and within a year")
        if role is Role.AUTHORITY and not self._seat.may_deputize:
            raise NotGranted(Decline.FORBIDDEN, TOO_DEEP)
        line = self._line(role, names.clean(name), uses, expires)
        return self._add(dataclasses.replace(line, author=author))

    def first(self) -> Invite:
        """The invite with which a group begins; while it is good it stays the same."""
        now = self._clock()
        with self._ledger.transaction():
            for line in reversed(self.open()):
                if line.is_first:
                    return self._printed(line)
            expires = now + self._terms.validity
            return self._add(self._line(Role.PEER, "", self._terms.uses, expires, is_first=True))

    def open(self) -> list[Line]:
        """The invites that can still be used, in the order of writing."""
        return self._ledger.invites(self._seat.me.peer_id, self._clock())

    def check_ticket(self, ticket: Ticket) -> None:
        """Raises `NotGranted` unless this is a ticket of ours; needs no ledger."""
        if not hmac.compare_digest(self._secret(ticket.number), ticket.secret):
            raise NotGranted(
                Decline.UNKNOWN, "this bootstrap has not written that invite; ask for a new one"
            )

    def find(self, number: bytes) -> Line:
        """The invite of a ticket; raises `NotGranted` if the ledger has lost it."""
        line = self._ledger.invite(number)
        if line is None:
            raise NotGranted(Decline.UNKNOWN, "the invite is no longer known; ask for a new one")
        return line

    def check(self, line: Line) -> None:
        """Raises `NotGranted` unless somebody new can use this invite now."""
        if line.revoked:
            raise NotGranted(Decline.REVOKED, "this invite was taken back; ask for a new one")
        if line.uses < 1:
            raise NotGranted(Decline.SPENT, "this invite has been used up; ask for a new one")
        if self._clock() >= line.expires:
            raise NotGranted(Decline.EXPIRED, "this invite has expired; ask for a new one")

    def _line(
        self, role: Role, name: str, uses: int, expires: float, *, is_first: bool = False
    ) -> Line:
        number = secrets.token_bytes(_NUMBER_LEN)
        writer, now = self._seat.me.peer_id, self._clock()
        return Line(number, writer, role, name, uses, now, expires, is_first=is_first)

    def _add(self, line: Line) -> Invite:
        invite = self._printed(line)
        with self._ledger.transaction():
            if len(self.open()) >= MAX_OPEN:
                why = f"{MAX_OPEN} invites are open; revoke some of them first"
                raise NotGranted(Decline.FORBIDDEN, why)
            self._ledger.add(line)
        number = line.number.hex()
        logger.info("invite written number=%s role=%s uses=%d", number, line.role, line.uses)
        return invite

    def _printed(self, line: Line) -> Invite:
        mine = self._seat.me.peer_id
        stations = sorted(self._ledger.stations(), key=lambda station: station.peer != mine)
        if not stations or stations[0].peer != mine or not stations[0].addresses:
            raise ConfigError(
                "nobody knows yet where this bootstrap is reached; start it once: swarm bootstrap"
                f" --dir {self._ledger.path.parent}"
            )
        key = identity.public_key(self._seat.group.key)
        assert key is not None
        return Invite(
            key=key,
            bootstraps=_bootstraps(stations),
            ticket=Ticket(line.number, self._secret(line.number)),
            role=line.role,
            expires=line.expires,
            group_name=self._seat.group.name,
        )

    def _secret(self, number: bytes) -> bytes:
        """An invite's secret. It follows from the number, so the ledger holds none to be stolen."""
        return hmac.digest(self._key, number, hashlib.sha256)[:_SECRET_LEN]


def _bootstraps(stations: list[Station]) -> tuple[Bootstrap, ...]:
    reached = [station for station in stations if station.addresses]
    writer, *others = reached[:_MAX_BOOTSTRAPS]
    return (
        _bootstrap(writer, _MAX_ADDRESSES),
        *(_bootstrap(station, _MAX_OTHERS_ADDRESSES) for station in others),
    )


def _bootstrap(station: Station, num_addresses: int) -> Bootstrap:
    key = identity.public_key(station.peer)
    assert key is not None
    bare = [address.rpartition("/p2p/")[0] or address for address in station.addresses]
    # The last one is the most public one.
    kept = bare if len(bare) <= num_addresses else [*bare[: num_addresses - 1], bare[-1]]
    return Bootstrap(key, tuple(kept))
