"""What one authority learns about a member from another.

Authorities work alone while they cannot reach each other, and tell each other later. Each field is
merged so that the order of telling does not matter, and telling twice changes nothing: all of them
end with the same. Whoever was revoked anywhere is revoked: nothing takes that back. Only `issuer`,
who answers for a member's roles, is each authority's own knowledge.
"""

from __future__ import annotations

import msgspec

from swarm.membership.certificate import Role
from swarm.wire.enrolment import Entry

from . import names


def merge(ours: Entry, theirs: Entry) -> Entry:
    """What both entries of one member say together."""
    roles = set(ours.roles) | set(theirs.roles)
    return Entry(
        member=ours.member,
        # A name only changes where two members had the same, and then it grows (`names.unique`).
        name=max(ours.name, theirs.name, key=lambda name: (len(name), name)),
        roles=ordered(roles),
        joined=min(ours.joined, theirs.joined),
        renewed=max(ours.renewed, theirs.renewed),
        expires=max(ours.expires, theirs.expires),
        revoked=min(filter(None, (ours.revoked, theirs.revoked)), default=0.0),
        # Whoever adds a role answers for it: the member loses it with that authority.
        issuer=ours.issuer if roles == set(ours.roles) else theirs.issuer,
    )


def ordered(roles: set[Role] | frozenset[Role]) -> tuple[Role, ...]:
    """Roles as they are written."""
    return tuple(role for role in Role if role in roles)


def presentable(entry: Entry) -> Entry:
    """An entry from elsewhere, with a name that can be shown, and its roles in order."""
    name = names.clean(entry.name) or "member"
    return msgspec.structs.replace(entry, name=name, roles=ordered(set(entry.roles)))


def yields(one: Entry, other: Entry) -> bool:
    """Of two living members with the same name, whether `one` must take another."""
    return (one.joined, one.member) > (other.joined, other.member)
