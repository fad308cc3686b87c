"""The way into a group: its bootstraps, its clock, our certificate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from swarm.directory.records import CLOCK_TOLERANCE
from swarm.errors import ConfigError, Lapse, MembershipError, PeerError, SwarmError
from swarm.invite import Invite
from swarm.membership.certificate import Role, Standing
from swarm.membership.enrolment import INVITE_FAULTS
from swarm.wire.enrolment import Decline, Declined, Enrolled

from .._times import until
from .check import Skip
from .finding import Finding, ok, problem, warning
from .visit import Meeting, Reply, Visit

_DRIFT = 3.0
"""Seconds by which a clock may differ before that is worth a word."""


class Asked:
    """What an authority has answered: asked for once, by whichever check comes first."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._reply: Reply | None = None

    async def reply(self) -> Reply:
        """Raises `Skip` where no bootstrap is there, and what `Visit.ask` raises."""
        if self._reply is None:
            self._reply = await self._visit.ask()
        return self._reply


@dataclass(frozen=True)
class InviteCheck:
    """Whether an invite can be read at all."""

    line: str
    name: str = "invite"
    seconds: float = 10.0

    async def run(self) -> Sequence[Finding]:
        try:
            invite = Invite.decode(self.line)
        except ConfigError as error:
            means = "the group cannot be found, and was not looked at."
            return [problem(str(error), means, "Copy the whole line, from hs1 to its end.")]
        now = time.time()
        if now >= invite.expires:
            # Members come in with it all the same.
            return [ok(f"can be read; made for {invite.role}, has let people in until it expired")]
        until_then = until(invite.expires, now)
        return [ok(f"can be read; made for {invite.role}, lets people in until {until_then}")]


@dataclass(frozen=True)
class BootstrapsCheck:
    """Whether the invite's bootstraps are there."""

    visit: Visit
    name: str = "bootstraps"
    seconds: float = 30.0

    async def run(self) -> Sequence[Finding]:
        met = await self.visit.meet()
        there = [each for each in met if not each.failure]
        if not there:
            return [_nobody(met)]
        fastest = min(each.seconds for each in there)
        told = f"{len(there)} of {len(met)} connected, the first after {fastest * 1e3:.0f} ms"
        if len(there) == len(met):
            return [ok(told)]
        means = "while it is away, the group depends on the others."
        return [warning(told, means, "Ask whoever runs it whether it is up.")]


def _nobody(met: Sequence[Meeting]) -> Finding:
    if any("peer id mismatch" in each.failure for each in met):
        return problem(
            "another program answers at the bootstrap's address",
            "the bootstrap was made anew, or another machine has its address now.",
            "Ask for a new invite.",
        )
    return problem(
        f"none of {len(met)} answers",
        "nobody joins, and certificates are not renewed; who is a member goes on for a while.",
        "Ask whether the bootstrap runs and can be reached from outside; look whether this machine"
        " is on the network, and whether a firewall forbids it to connect to other ports than the"
        " web's.",
    )


@dataclass(frozen=True)
class ClockCheck:
    """How far our clock is from the group's."""

    visit: Visit
    asked: Asked
    name: str = "clock"
    seconds: float = 30.0

    async def run(self) -> Sequence[Finding]:
        reply = await self.asked.reply()
        if not isinstance(reply.answer, Enrolled):
            raise Skip("the bootstrap tells its time to members only")
        # A certificate begins when it is made.
        there = self.visit.standing(reply.answer.credential).begins
        ahead = (reply.early + reply.late) / 2 - there
        doubt = (reply.late - reply.early) / 2
        told = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the bootstrap's"
        if abs(ahead) < 1.0:
            told = f"agrees with the bootstrap's, within {abs(ahead) + doubt:.1f} s"
        do = "Set this machine's clock (sudo timedatectl set-ntp true), or the bootstrap's."
        if abs(ahead) - doubt > CLOCK_TOLERANCE:
            means = f"more than {CLOCK_TOLERANCE:g} s: members do not hear one another."
            return [problem(told, means, do)]
        if abs(ahead) - doubt > _DRIFT:
            means = f"it works up to {CLOCK_TOLERANCE:g} s."
            return [warning(told, means, do)]
        return [ok(told)]


@dataclass(frozen=True)
class CertificateCheck:
    """Whether we belong to the group, as what, and until when."""

    visit: Visit
    asked: Asked
    name: str = "certificate"
    seconds: float = 45.0

    async def run(self) -> Sequence[Finding]:
        papers = self.visit.papers()
        ours = None if papers is None else self.visit.standing(papers.credential)
        try:
            reply = await self.asked.reply()
        except (Skip, PeerError):
            found = self._unasked(ours)
            # Members get in by others that they have met.
            with suppress(SwarmError, Skip):
                await self.visit.belong()
            return [found]
        if isinstance(reply.answer, Declined):
            return [_declined(reply.answer, is_member=ours is not None)]
        try:
            membership = await self.visit.belong()
        except MembershipError as error:
            return [_out(str(error), error.lapse)]
        except ConfigError as error:
            return [problem(str(error), "this machine does not get in.", "Ask for a new invite.")]
        member = self.visit.papers()
        standing = self.visit.standing(member.credential) if member else membership.standing
        return [self._held(standing)]

    def _held(self, standing: Standing) -> Finding:
        now = self.visit.clock()
        roles = ", ".join(str(role) for role in Role if standing.may(role))
        told = f"{roles}; holds until {until(standing.expires, now)}, and is renewed"
        if standing.may(Role.PEER):
            return ok(told)
        return ok(f"{told}. It may ask; to serve blocks it needs an invite made with --role peer")

    def _unasked(self, ours: Standing | None) -> Finding:
        if ours is None:
            raise Skip("no bootstrap answers, and this machine is not a member yet")
        now, do = self.visit.clock(), "See above: a bootstrap must be heard again."
        if now >= ours.expires:
            means = "this machine is no member until a bootstrap renews it."
            return problem("has expired, and nobody renews it", means, do)
        told = f"holds until {until(ours.expires, now)}; nobody renews it now"
        return warning(told, "then this machine is out until a bootstrap is back.", do)


def _declined(answer: Declined, *, is_member: bool) -> Finding:
    if answer.why in (Decline.REVOKED, Decline.FORBIDDEN) and (
        is_member or answer.why is Decline.FORBIDDEN
    ):
        return _out(answer.message or "this machine was removed from the group", Lapse.REVOKED)
    why = answer.message or INVITE_FAULTS.get(answer.why, "the bootstrap declines")
    if answer.why is Decline.BUSY:
        return warning(why, "it has too much to do.", "Try again in a minute.")
    what = "certificate" if is_member else "invite"
    means = f"with this {what}, this machine does not get into the group."
    return problem(why, means, "Ask somebody who runs the group for a new invite: swarm invite.")


def _out(why: str, lapse: Lapse) -> Finding:
    if lapse is Lapse.REVOKED:
        return problem(
            why,
            "somebody who runs the group has thrown this machine out.",
            "Ask them; to come back it needs a new identity (another --dir) and a new invite.",
        )
    means = "others do not take this machine for a member."
    return problem(why, means, "Look at the clock; else join with a new invite.")
