"""Both ends of a link prove to be members, and stay so while it lives.

Whoever opens a link shows its credential first: those whom it dials are members by all that it
knows, while anybody may knock at an open port, and learns nothing there. That a credential is shown
by the one for whom it was made need not be proved again: `Stream.peer` is. Later each side shows
what it has renewed, and passes on the lists of revocations that it hears of; so these reach all
members over the links that there are, also while no bootstrap is up.
"""

from __future__ import annotations

from collections.abc import Iterator

from swarm.errors import Lapse, MembershipError, Misbehaved, NotAMember, Unreachable

from ..membership.certificate import Standing
from ..membership.membership import Membership
from ..wire.fields import Message
from ..wire.linking import Denied, Renewed, Revoked
from ..wire.messages import AnyMessage
from . import Buffer

_TOLD = (Lapse.EXPIRED, Lapse.REVOKED)
"""Lapses that are named to the other side: it was a member. Others are told nothing."""


class Vouching:
    """What two members know of each other's membership. `peer` is the other."""

    def __init__(self, membership: Membership, peer: str) -> None:
        self._membership = membership
        self._peer = peer
        self._standing: Standing | None = None
        self._shown = membership.credential
        self._told: frozenset[bytes] = frozenset()

    @property
    def standing(self) -> Standing:
        """Who the other side is, once it has shown that."""
        assert self._standing is not None, "nobody has been met"
        return self._standing

    def show(self) -> bytes:
        """Our credential, to be sent now."""
        self._shown = self._membership.credential
        return self._shown

    def meet(self, credential: bytes) -> None:
        """Takes the other side's credential; raises `NotAMember`."""
        try:
            standing = self._membership.trust.check(credential, self._peer)
        except MembershipError as error:
            raise NotAMember(self._peer, str(error), error.lapse) from error
        # What it has taken is counted against the member that it was when it took it.
        if self._standing is not None and standing.member != self._standing.member:
            raise NotAMember(self._peer, "shows the certificate of another member than before")
        self._standing = standing

    def check(self) -> None:
        """Raises `NotAMember` once the other side's certificate has expired or been revoked."""
        try:
            self._membership.trust.check_standing(self.standing)
        except MembershipError as error:
            raise NotAMember(self._peer, str(error), error.lapse) from error

    def news(self) -> Iterator[tuple[Message, bytes]]:
        """What the other side has not been shown yet."""
        if self._shown is not self._membership.credential:
            yield Renewed(self.show()), b""
        lists = frozenset(self._membership.trust.lists)
        for signed in lists - self._told:
            yield Revoked(), signed
        self._told = lists

    def hear(self, message: AnyMessage, payload: Buffer) -> bool:
        """Takes what is about membership; returns whether the message was.

        Raises `PeerError` where the link cannot go on.
        """
        match message:
            case Renewed(credential):
                self.meet(credential)
            case Revoked():
                self._learn(bytes(payload))
            case Denied(lapse):
                self.denied(lapse)
            case _:
                return False
        return True

    def denied(self, lapse: Lapse) -> None:
        """The other side does not take us for a member any more; always raises `Unreachable`."""
        self._membership.doubt()
        raise Unreachable(self._peer, f"does not let us in: our certificate is {lapse}")

    def _learn(self, signed: bytes) -> None:
        # It need not be told of what it has told us.
        self._told |= {signed}
        try:
            self._membership.trust.learn(signed)
        except MembershipError as error:
            # That its author has been thrown out meanwhile is news to whoever passes it on.
            if error.lapse not in _TOLD:
                raise Misbehaved(self._peer, str(error)) from error


def denial(error: NotAMember) -> Denied | None:
    """What somebody is told who is not let in; None where that is nothing."""
    return Denied(error.lapse) if error.lapse in _TOLD else None
