"""From tokens to text while it streams: only whole characters, and nothing that may yet be a stop.

A token can end in the middle of a character, and what a token reads as depends on the one before
it. So the newest tokens are decoded together with a few earlier ones, and the difference is the new
text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .spelling import Spelled, Spelling

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_MAX_HELD = 8
"""Tokens that one character may take; after that a replacement character is what it is."""

_FIRST_SURROGATE = 0xD800


class Decoder(Protocol):
    """What is needed of a tokenizer."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of some tokens."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Text that has become certain, and the tokens that it is made of."""

    text: str = ""
    tokens: tuple[Spelled, ...] = ()


class TextStream:
    """Turns tokens into text; `stopped_by` is the stop string that has come.

    Text comes with whole tokens: one that may be part of a stop string is held back as a whole.
    Special tokens are no text; but where a stop string has the name of one, the token is meant too.
    """

    def __init__(self, decoder: Decoder, spelling: Spelling, stop: Sequence[str] = ()) -> None:
        self._decoder = decoder
        self._spelling = spelling
        self._letters = _letters(spelling.names, stop)
        self._stop = [(read, each) for each in stop for read in _ways(each, self._letters)]
        self._ids: list[int] = []
        self._context = 0
        self._emitted = 0
        self._held: deque[tuple[str, Passage]] = deque()
        self.stopped_by: str | None = None

    @property
    def finished(self) -> bool:
        """Whether a stop string has come: nothing that follows is text."""
        return self.stopped_by is not None

    def push(self, token: int) -> Passage:
        """The text that this token makes certain; may be empty."""
        if letter := self._letters.get(self._spelling.hidden(token) or ""):
            self._hold_rest()
            self._held.append((letter, Passage("", (Spelled(token, b""),))))
            return self._release()
        self._ids.append(token)
        before = self._decode(self._ids[self._context : self._emitted])
        after = self._decode(self._ids[self._context :])
        waited = len(self._ids) - self._emitted
        if len(after) <= len(before) or (after.endswith(_UNFINISHED) and waited < _MAX_HELD):
            return Passage()
        self._hold(after[len(before) :])
        return self._release()

    def flush(self) -> Passage:
        """What was held back and is now certain to be text."""
        self._hold_rest()
        piece = self._release()
        return piece if self.finished else _joined([piece, self._take_all()])

    def _decode(self, ids: Sequence[int]) -> str:
        return self._decoder.decode(ids, skip_special_tokens=True)

    def _hold(self, text: str) -> None:
        """The newest tokens, together, are this text."""
        ids = self._ids[self._emitted :]
        self._context, self._emitted = self._emitted, len(self._ids)
        self._held.append((text, Passage(text, self._spelling.spell(ids, text))))

    def _hold_rest(self) -> None:
        before = self._decode(self._ids[self._context : self._emitted])
        after = self._decode(self._ids[self._context :])
        self._hold(after[len(before) :])

    def _release(self) -> Passage:
        """Cuts at a stop string; holds back an end that may become one."""
        if not self._stop:
            return self._take_all()
        text = "".join(read for read, _ in self._held)
        found = [
            (at + len(read), at, stop) for read, stop in self._stop if (at := text.find(read)) >= 0
        ]
        if found:
            # The one that was complete first, however the text is cut into tokens.
            _, start, self.stopped_by = min(found)
            return self._cut(start)
        keep = max((_overlap(text, read) for read, _ in self._stop), default=0)
        return _joined(self._take(len(text) - keep)[0])

    def _take_all(self) -> Passage:
        taken = _joined([passage for _, passage in self._held])
        self._held.clear()
        return taken

    def _take(self, room: int) -> tuple[list[Passage], int]:
        """Whole passages that read as at most `room` characters together, and how many are left."""
        taken = []
        while self._held and len(self._held[0][0]) <= room:
            read, passage = self._held.popleft()
            taken.append(passage)
            room -= len(read)
        return taken, room

    def _cut(self, length: int) -> Passage:
        """The first `length` characters; a token beyond is dropped, one across it is cut."""
        whole, rest = self._take(length)
        if not rest:
            return _joined(whole)
        _, across = self._held[0]
        text = across.text[:rest]
        tokens: list[Spelled] = []
        room = _num_bytes(b"".join(token.raw for token in across.tokens), text)
        for token in across.tokens:
            if room > 0:
                tokens.append(Spelled(token.id, token.raw[:room]))
                room -= len(token.raw)
        return _joined([*whole, Passage(text, tuple(tokens))])


def _letters(names: Iterable[str], stop: Sequence[str]) -> dict[str, str]:
    """For each special token that a stop string names, a letter that no decoded text can hold."""
    named = sorted({name for name in names if name and any(name in each for each in stop)})
    return {name: chr(_FIRST_SURROGATE + number) for number, name in enumerate(named)}


def _ways(stop: str, letters: Mapping[str, str]) -> list[str]:
    """A stop string as it may come: as text, and, where it names special tokens, with these."""
    if not letters:
        return [stop]
    longest = sorted(letters, key=len, reverse=True)
    named = re.compile("|".join(map(re.escape, longest)))
    return list(dict.fromkeys((stop, named.sub(lambda found: letters[found[0]], stop))))


def _joined(passages: Sequence[Passage]) -> Passage:
    if len(passages) == 1:
        return passages[0]  # As nearly always.
    tokens = tuple(token for passage in passages for token in passage.tokens)
    return Passage("".join(passage.text for passage in passages), tokens)


def _num_bytes(raw: bytes, text: str) -> int:
    """How many of these bytes read as `text`, with which what they read as begins."""
    lengths = range(len(raw), -1, -1)
    return next((n for n in lengths if raw[:n].decode(errors="replace") == text), len(raw))


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
