"""The keys of a bootstrap's page: one for those who look, and one for those who let people in.

Each is a file in the bootstrap's folder that its owner alone can read. Who deletes one, or writes
another, has the key changed at once; the bootstrap makes a new one where there is none.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from enum import StrEnum
from pathlib import Path

from swarm import state
from swarm.errors import ConfigError

logger = logging.getLogger(__name__)

LEAST = 20
"""Characters of a key that somebody has put there."""

_NUM_BYTES = 32


class Right(StrEnum):
    """What a key lets its holder do."""

    LOOK = "look"
    """See what the group serves."""
    ADMINISTER = "administer"
    """Also see its members, invite and throw out: all that the bootstrap's owner may."""


FILES = {Right.LOOK: "page.key", Right.ADMINISTER: "page-admin.key"}


class PageKeys:
    """The keys in a bootstrap's folder, as they are at that moment."""

    required = True
    advice = "It has one"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._marks: dict[Right, tuple[int, ...]] = {}
        self._digests: dict[Right, bytes] = {}

    def path(self, right: Right) -> Path:
        """The file of a key."""
        return self._folder / FILES[right]

    def text(self, right: Right) -> str:
        """A key, which is made if there is none; raises `ConfigError` if that fails."""
        path = self.path(right)
        if (content := state.read(path)) is None:
            made = secrets.token_urlsafe(_NUM_BYTES)
            if state.create(path, f"{made}\n".encode()):
                return made
            content = state.read(path) or b""
        key = content.decode("ascii", "replace").strip()
        if len(key) < LEAST or not key.isascii() or not key.isprintable():
            raise ConfigError(
                f"{path} is no key: at least {LEAST} plain characters. Delete it for a new one"
            )
        return key

    def right(self, key: str) -> Right | None:
        """What this key lets do; None if it is none of ours."""
        given = _digest(key)
        found = None
        # All are compared, each in constant time: how long it takes tells nothing.
        for right in Right:
            known = self._digest(right)
            if known is not None and hmac.compare_digest(known, given):
                found = right
        return found

    def _digest(self, right: Right) -> bytes | None:
        """What a key hashes to; None where its file is damaged, so that nobody has it."""
        mark = _mark(self.path(right))
        if not mark or mark != self._marks.get(right):
            self._digests.pop(right, None)
            try:
                self._digests[right] = _digest(self.text(right))
            except ConfigError as error:
                logger.warning("page's key not read why=%s", error)
            # The mark of before: what changed while it was read is read again.
            self._marks[right] = mark
        return self._digests.get(right)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _mark(path: Path) -> tuple[int, ...]:
    """Something that changes whenever the file does; nothing where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_size)
