"""Keys that let programs ask: given out once, and known afterwards by what only they hash to.

A key that is made here has 256 random bits. Nobody can try that many, so a plain SHA-256 is
enough: slow hashes protect what people have thought of themselves, and would cost every request.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from swarm import state
from swarm.errors import ConfigError, RequestError
from swarm.quoting import quoted

logger = logging.getLogger(__name__)

PREFIX = "sk-swarm-"
"""Some clients want keys to begin like OpenAI's; and what leaks is recognized by it."""

LEAST = 20
"""Characters of a key that somebody has thought of."""

FILE = "keys.json"

_LOCK = "keys.lock"
_MOST_KEYS = 1000
_NAME = re.compile(r"[A-Za-z0-9][\w.@-]{0,63}", re.ASCII)


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as it is kept: its name, SHA-256 in hex, and when it was made (Unix seconds)."""

    name: Annotated[str, msgspec.Meta(pattern=f"^{_NAME.pattern}$")]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    created: float


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[tuple[Key, ...], msgspec.Meta(max_length=_MOST_KEYS)]


class KeyFile:
    """The keys that are kept in a folder, which several programs may change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / FILE

    async def add(self, name: str) -> str:
        """Makes a key and returns it; raises `RequestError` where the name cannot be given."""
        if not _NAME.fullmatch(name):
            raise RequestError(
                f"{quoted(name)} is no name for a key: letters, digits and . _ @ - go, up to 64"
            )
        key = PREFIX + secrets.token_urlsafe(32)
        state.make_folder(self._folder)
        async with state.turn(self._folder / _LOCK):
            known = self.read()
            if any(each.name == name for each in known):
                raise RequestError(f"there is a key {name} already; revoke it first")
            if len(known) >= _MOST_KEYS:
                raise RequestError(f"there are {len(known)} keys already, as many as may be")
            self._write((*known, Key(name, _digest(key), time.time())))
        return key

    async def revoke(self, name: str) -> None:
        """Takes a key back; raises `RequestError` if there is none of this name."""
        if not self.path.exists():
            raise RequestError(f"there is no key {quoted(name)}")
        async with state.turn(self._folder / _LOCK):
            known = self.read()
            kept = tuple(each for each in known if each.name != name)
            if len(kept) == len(known):
                raise RequestError(f"there is no key {quoted(name)}")
            self._write(kept)

    def read(self) -> tuple[Key, ...]:
        """All keys; raises `ConfigError` where the file cannot be read."""
        raw = state.read(self.path)
        if raw is None:
            return ()
        try:
            return msgspec.json.decode(raw, type=_File).keys
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{self.path} is damaged: {error}") from error

    def mark(self) -> tuple[int, ...]:
        """Something that changes whenever the file does."""
        try:
            found = os.stat(self.path)
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)

    def _write(self, keys: tuple[Key, ...]) -> None:
        state.replace(self.path, msgspec.json.format(msgspec.json.encode(_File(keys))) + b"\n")


def given(texts: Iterable[str]) -> tuple[Key, ...]:
    """Keys that a user has brought, each as `NAME=KEY` or `KEY`; raises `ConfigError`."""
    keys = []
    for number, text in enumerate(texts, 1):
        name, _, key = text.partition("=")
        if not key.strip("="):
            # A lone key: base64 may end in "=".
            name, key = f"given-{number}", text
        if not _NAME.fullmatch(name):
            raise ConfigError(f"the name of given key {number} has other characters than names do")
        if len(key) < LEAST or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"given key {number} is too easy to guess or no key at all: at least {LEAST} plain"
                " characters without spaces (`swarm serve keys add NAME` makes a good one)"
            )
        keys.append(Key(name, _digest(key), 0.0))
    if len({each.name for each in keys}) < len(keys):
        raise ConfigError("two given keys have the same name")
    return tuple(keys)


class Keys:
    """Who may ask: keys that were given, and those in a file, as it is at that moment."""

    def __init__(self, given: Iterable[Key] = (), file: KeyFile | None = None) -> None:
        self._given = tuple(given)
        self._file = file
        self._kept: tuple[Key, ...] = ()
        self._mark: tuple[int, ...] = ()
        self._required = bool(self._given)
        if file is not None:
            self._mark, self._kept = file.mark(), file.read()

    @property
    def required(self) -> bool:
        """Whether a key is needed: from the first one on, even if all are revoked then."""
        self._look()
        self._required = self._required or bool(self._kept)
        return self._required

    @property
    def advice(self) -> str:
        """How to have a key needed."""
        return "Make one with `swarm serve keys add NAME`"

    def find(self, key: str) -> Key | None:
        """What is known of a key, if it is one of ours."""
        self._look()
        digest = _digest(key)
        found = None
        # All are compared, each in constant time: how long it takes tells nothing.
        for each in (*self._given, *self._kept):
            if hmac.compare_digest(each.sha256, digest):
                found = each
        return found

    def _look(self) -> None:
        if self._file is None or (mark := self._file.mark()) == self._mark:
            return
        self._required = self._required or bool(self._kept)
        try:
            self._kept = self._file.read()
        except ConfigError as error:
            # What was revoked cannot be told from what was not: none of them holds any more.
            logger.error("keys not read why=%s", error)
            self._kept, self._required = (), True
        self._mark = mark


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
