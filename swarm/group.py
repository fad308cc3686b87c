"""A group: the private swarm that an invite opens.

A group is a key. Whatever it has signed belongs to it, and so does what those have signed whom it
has told to (`swarm.membership.certificate`). Its public half is written like a peer id.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """One group, by its public `key`, written as a peer id; `name` is for people."""

    key: str
    name: str = ""

    @property
    def id(self) -> str:
        """A short name for folders and directory keys: 16 hex digits."""
        return hashlib.sha256(b"homeswarm group\0" + self.key.encode()).hexdigest()[:16]
