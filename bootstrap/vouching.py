"""Who answers for a member: the authority that let it in, and those above that one.

An authority that is thrown out takes with it what it alone has said: whom it has let in is not
renewed until another authority lets it in again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from swarm.membership.certificate import Certificate, Role, Signed
from swarm.wire.enrolment import Entry

from . import merging, names
from .ledger import Ledger
from .office import MAX_ABOVE

logger = logging.getLogger(__name__)


def is_vouched(ledger: Ledger, entry: Entry) -> bool:
    """Whether no authority above a member has been thrown out, as far as they are known."""
    above = ledger.member(entry.issuer)
    for _ in range(MAX_ABOVE + 1):
        if above is None:
            return True
        if above.revoked:
            return False
        above = ledger.member(above.issuer)
    return True


@dataclass(frozen=True)
class Witness:
    """An authority that tells us of members, and who has certified whom from it upwards."""

    peer: str
    certified: Mapping[str, str]

    @classmethod
    def of(cls, credential: bytes) -> Witness:
        """The one whose credential this is; it must have been examined."""
        signed = msgspec.msgpack.decode(credential, type=tuple[Signed, ...])
        chain = [msgspec.msgpack.decode(each.body, type=Certificate) for each in signed]
        return cls(chain[0].subject, {each.subject: each.issuer for each in chain})


def take(ledger: Ledger, me: str, source: Witness, entries: Iterable[Entry]) -> None:
    """Takes in what another authority knows of members; `me` is whose ledger this is."""
    with ledger.transaction():
        # Authorities first: they answer for others.
        for entry in sorted(entries, key=lambda entry: Role.AUTHORITY not in entry.roles):
            _take(ledger, me, source, merging.presentable(entry))


def _take(ledger: Ledger, me: str, source: Witness, theirs: Entry) -> None:
    ours = ledger.member(theirs.member)
    theirs = msgspec.structs.replace(theirs, issuer=_issuer(ledger, me, source, theirs))
    if theirs.member in source.certified.values():
        # Who has certified the source stands above it, and cannot be thrown out by it.
        theirs = msgspec.structs.replace(theirs, revoked=0.0)
    merged = theirs
    if ours is not None:
        # Whoever is said to have let the member in knows best whether it has.
        issuer = theirs.issuer if ours.issuer == source.peer else ours.issuer
        corrected = msgspec.structs.replace(ours, issuer=issuer)
        merged = merging.merge(*_vouched(ledger, corrected, theirs))
    if merged == ours:
        return
    if merged.revoked and not (ours and ours.revoked):
        logger.info("member revoked elsewhere name=%s by=%s", merged.name, source.peer)
        exclude(ledger, merged.member)
    ledger.write(_with_own_name(ledger, merged))


def exclude(ledger: Ledger, member: str) -> set[bytes]:
    """Takes back the invites by which a member that was thrown out could return.

    Returns their numbers. It is nobody's station any more, either.
    """
    ledger.forget(member)
    numbers = set(ledger.known_to(member))
    for number in numbers:
        ledger.withdraw(number)
    return numbers


def _issuer(ledger: Ledger, me: str, source: Witness, told: Entry) -> str:
    """Who answers for an entry that we are told.

    What certificates prove comes first. Otherwise another authority that we know, if the source
    says so, but not we ourselves: whom we have let in we know. Else the source does.
    """
    if told.member in source.certified:
        return source.certified[told.member]
    known = told.issuer != me and ledger.member(told.issuer) is not None
    return told.issuer if known else source.peer


def _vouched(ledger: Ledger, ours: Entry, theirs: Entry) -> tuple[Entry, Entry]:
    """Both entries, without the roles that an authority gave which was thrown out."""
    if not is_vouched(ledger, theirs):
        return ours, msgspec.structs.replace(theirs, roles=ours.roles)
    if not is_vouched(ledger, ours):
        ours = msgspec.structs.replace(ours, roles=theirs.roles, issuer=theirs.issuer)
    return ours, theirs


def _with_own_name(ledger: Ledger, entry: Entry) -> Entry:
    """The entry, under another name if somebody has it who joined elsewhere and earlier."""
    other = ledger.living(entry.name)
    if entry.revoked or other is None or other.member == entry.member:
        return entry
    free = names.unique(entry.name, lambda name: ledger.living(name) is not None)
    if merging.yields(entry, other):
        return msgspec.structs.replace(entry, name=free)
    ledger.write(msgspec.structs.replace(other, name=free))
    return entry
