"""Trust: whom we take for a member, by credentials and by what has been revoked."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from swarm.errors import Lapse, MembershipError

from ..group import Group
from .certificate import CLOCK_TOLERANCE, Role, Standing, Verifies, examine
from .revocation import Revocation, read_list

logger = logging.getLogger(__name__)

_MAX_EXAMINED = 4096
_MAX_AUTHORITIES = 16


@dataclass(frozen=True)
class _Known:
    """The newest list of one authority."""

    author: Standing
    number: int
    signed: bytes


class Trust:
    """One group as one of its members sees it; `clock` gives seconds since 1970.

    Credentials are checked offline. What has been revoked is learned from anybody who shows a list
    that an authority has signed.
    """

    def __init__(
        self, group: Group, verifies: Verifies, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.group = group
        self.clock = clock
        self.verifies = verifies
        self._examined: dict[bytes, Standing] = {}
        self._lists: dict[str, _Known] = {}
        self._revoked: dict[str, Revocation] = {}
        self._watchers: list[Callable[[], None]] = []

    @property
    def lists(self) -> tuple[bytes, ...]:
        """The newest list of each authority, to be shown to others."""
        return tuple(known.signed for known in self._lists.values())

    @property
    def revoked(self) -> tuple[Revocation, ...]:
        """Who has been thrown out."""
        return tuple(self._revoked.values())

    def has_revoked(self, member: str) -> bool:
        """Whether this one has been thrown out itself."""
        return member in self._revoked

    def watch(self, on_change: Callable[[], None]) -> None:
        """Calls `on_change` from now on when somebody has been thrown out."""
        self._watchers.append(on_change)

    def check(self, credential: bytes, peer: str | None = None) -> Standing:
        """Who `peer` is, which shows this credential; without `peer` whoever it is made for.

        The caller must know that it is this peer. Raises `MembershipError` that says what is wrong.
        """
        standing = self._examine(credential)
        if peer is not None and standing.peer != peer:
            raise MembershipError(Lapse.FORGED, "this certificate is somebody else's")
        self.check_standing(standing)
        return standing

    def check_standing(self, standing: Standing) -> None:
        """Raises `MembershipError` once it has expired or been revoked."""
        now = self.clock()
        if not {standing.member, standing.peer, *standing.issuers}.isdisjoint(self._revoked):
            raise MembershipError(Lapse.REVOKED, f"{standing.name} was removed from the group")
        if now >= standing.expires:
            raise MembershipError(Lapse.EXPIRED, f"the certificate of {standing.name} has expired")
        if now < standing.begins - CLOCK_TOLERANCE:
            raise MembershipError(
                Lapse.EXPIRED, f"the certificate of {standing.name} begins later: a clock is wrong"
            )

    def learn(self, signed: bytes) -> bool:
        """Takes a list of revocations, whoever shows it; returns whether there was news in it.

        Raises `MembershipError` if no authority of the group has signed it.
        """
        # Every neighbour shows the same ones, which may be long.
        if signed in self.lists:
            return False
        author, content = read_list(signed, self.group, self.verifies)
        if Role.AUTHORITY not in author.roles or author.peer != author.member:
            raise MembershipError(Lapse.FORGED, f"{author.name} may not revoke anybody")
        self.check_standing(author)
        before = self._lists.get(author.peer)
        if before is None and not self._has_room(author):
            return False
        if before is not None and content.number <= before.number:
            return False
        self._lists[author.peer] = _Known(author, content.number, signed)
        # Who has certified the author stands above it: the author cannot throw that one out.
        above = author.issuers
        news = [each for each in content.revoked if each.member not in above]
        num_before = len(self._revoked)
        self._revoked |= {each.member: each for each in news}
        if len(self._revoked) > num_before:
            logger.info("members revoked by=%s number=%d", author.name, len(content.revoked))
            for watcher in self._watchers:
                watcher()
        return True

    def _has_room(self, author: Standing) -> bool:
        """Whether an authority's first list is kept; makes room for it where it is to be."""
        if len(self._lists) < _MAX_AUTHORITIES:
            return True
        for peer, known in list(self._lists.items()):
            try:
                self.check_standing(known.author)
            except MembershipError:
                del self._lists[peer]
        if len(self._lists) < _MAX_AUTHORITIES:
            return True
        # Who stands higher counts more: else one authority could certify so many that nobody above
        # it finds room to throw it out.
        lowest = max(self._lists, key=lambda peer: len(self._lists[peer].author.issuers))
        if len(self._lists[lowest].author.issuers) <= len(author.issuers):
            return False
        del self._lists[lowest]
        return True

    def _examine(self, credential: bytes) -> Standing:
        """Signatures are checked once for each credential: the same ones come again and again."""
        digest = hashlib.sha256(credential).digest()
        standing = self._examined.get(digest)
        if standing is None:
            standing = examine(credential, self.group, self.verifies)
            if len(self._examined) >= _MAX_EXAMINED:
                del self._examined[next(iter(self._examined))]
            self._examined[digest] = standing
        return standing
