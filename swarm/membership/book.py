"""A group's book: who belongs to it and who still could, as it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from swarm.wire.enrolment import Entry, OpenInvite

if TYPE_CHECKING:
    # Which brings cryptography along: who only looks at options need not wait for that.
    from .administration import Roll


class Condition(StrEnum):
    """How a member stands with its group."""

    OK = "ok"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Book:
    """A group's members and open invites at the time `now` (seconds since 1970)."""

    roll: Roll
    now: float

    def condition(self, entry: Entry) -> Condition:
        """How this member stands: expired means that it has not renewed itself, being away."""
        if entry.revoked:
            return Condition.REVOKED
        return Condition.OK if entry.expires > self.now else Condition.EXPIRED

    @property
    def members(self) -> list[Entry]:
        """All that there ever were, in the order in which they joined."""
        return sorted(self.roll.members, key=lambda entry: (entry.joined, entry.name))

    @property
    def invites(self) -> list[OpenInvite]:
        """Those with which somebody could still join, the first to expire first."""
        usable = (
            each
            for each in self.roll.invites
            if each.uses and not each.revoked and each.expires > self.now
        )
        return sorted(usable, key=lambda each: each.expires)

    def num_reports(self, entry: Entry) -> int | None:
        """How many members have caught this one at wrong work, if that can be seen from here."""
        return None if self.roll.reports is None else self.roll.reports.get(entry.member, 0)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "members": [
                {
                    "name": entry.name,
                    "member": entry.member,
                    "roles": [str(role) for role in entry.roles],
                    "joined": entry.joined,
                    "renewed": entry.renewed,
                    "expires": entry.expires,
                    "revoked": entry.revoked or None,
                    "state": str(self.condition(entry)),
                    "reports": self.num_reports(entry),
                }
                for entry in self.members
            ],
            "invites": [
                {
                    "id": each.number.hex(),
                    "name": each.name,
                    "role": str(each.role),
                    "uses": each.uses,
                    "expires": each.expires,
                }
                for each in self.invites
            ],
            "silent": [station.peer for station in self.roll.silent],
        }
