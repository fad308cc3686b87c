"""Our own membership: what we show to others, and whom we take for members."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..group import Group
from .certificate import Certificate, Role, Sign, Standing, examine, issue
from .trust import Trust

_PROCESS_ROLES = frozenset({Role.CLIENT, Role.ADMIN})
"""What programs do that run beside a machine's peer: they serve nothing."""


class Membership:
    """Who we are in one group, and what we know of its others.

    The credential changes when it is renewed: whoever shows it asks for it each time.
    """

    def __init__(self, trust: Trust, credential: bytes, sign: Sign) -> None:
        self.trust = trust
        self.sign = sign
        self._credential = credential
        self._standing = examine(credential, trust.group, trust.verifies)
        self._watchers: list[Callable[[], None]] = []

    @property
    def group(self) -> Group:
        """The group."""
        return self.trust.group

    @property
    def credential(self) -> bytes:
        """What shows that we are a member."""
        return self._credential

    @property
    def standing(self) -> Standing:
        """What our credential says."""
        return self._standing

    def adopt(self, credential: bytes) -> None:
        """From now on shows this one instead; raises `MembershipError` if it is none."""
        self._standing = examine(credential, self.group, self.trust.verifies)
        self._credential = credential

    def doubt(self) -> None:
        """Somebody has refused us: those who look after our membership ask whether it stands."""
        for watcher in self._watchers:
            watcher()

    def watch(self, on_doubt: Callable[[], None]) -> None:
        """Calls `on_doubt` from now on when somebody has refused us."""
        self._watchers.append(on_doubt)


def certify_process(
    membership: Membership, process: str, clock: Callable[[], float] = time.time
) -> bytes:
    """The credential of a program of ours: it asks, in our name, for as long as ours lasts."""
    ours = membership.standing
    certificate = Certificate(
        subject=process,
        issuer=ours.peer,
        name=ours.name,
        roles=tuple(sorted(ours.roles & _PROCESS_ROLES)),
        issued=min(clock(), ours.expires),
        expires=ours.expires,
    )
    return issue(certificate, membership.group, membership.sign, membership.credential)
