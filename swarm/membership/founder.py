"""The twin of a bootstrap's authority: admits whom it is told to, within one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from ..group import Group
from .certificate import ROLES, Certificate, Role, issue
from .membership import Membership
from .revocation import Revocation, RevocationList, sign_list
from .trust import Trust

DAY = 86_400.0

_FAR = 1e10


class Key(Protocol):
    """What can sign as one peer; see `transport.Signer`."""

    @property
    def peer_id(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...

    def verifies(self, message: bytes, signature: bytes, peer: str) -> bool: ...


class Founder:
    """A group of one process. `key` is the group's own, `authority` certifies its members."""

    def __init__(
        self, key: Key, authority: Key, name: str = "", *, clock: Callable[[], float] = time.time
    ) -> None:
        self.group = Group(key.peer_id, name)
        self._authority = authority
        self._clock = clock
        self._revoked: tuple[Revocation, ...] = ()
        certificate = Certificate(
            authority.peer_id, key.peer_id, "authority", ROLES[Role.AUTHORITY], clock(), _FAR
        )
        self._credential = issue(certificate, self.group, key.sign)

    @property
    def membership(self) -> Membership:
        """The authority's own."""
        return Membership(self.trust(), self._credential, self._authority.sign)

    def trust(self) -> Trust:
        """What somebody trusts who has heard of no revocation yet."""
        return Trust(self.group, self._authority.verifies, clock=self._clock)

    def certify(
        self, peer: str, role: Role = Role.PEER, name: str = "", lifetime: float = DAY
    ) -> bytes:
        """A credential for `peer`, which lasts `lifetime` seconds."""
        now = self._clock()
        certificate = Certificate(
            peer, self._authority.peer_id, name or peer[-32:], ROLES[role], now, now + lifetime
        )
        return issue(certificate, self.group, self._authority.sign, self._credential)

    def admit(
        self, key: Key, role: Role = Role.PEER, name: str = "", lifetime: float = DAY
    ) -> Membership:
        """The membership of whoever holds this key."""
        credential = self.certify(key.peer_id, role, name, lifetime)
        return Membership(self.trust(), credential, key.sign)

    def revoke(self, *members: str) -> bytes:
        """Throws these out, and all before; the signed list that tells others of it."""
        now = self._clock()
        self._revoked += tuple(
            Revocation(member, member[-32:], now, now + DAY) for member in members
        )
        content = RevocationList(len(self._revoked), self._revoked)
        return sign_list(content, self.group, self._authority.sign, self._credential)
