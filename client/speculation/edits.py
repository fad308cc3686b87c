"""Follows a passage that is being copied with changes, over each change.

After a change the newest words occur nowhere else, so that looking them up leads elsewhere or
nowhere until the copy has gone on for a while. But it is known where the copy had come from, and it
most likely goes on just behind what was changed there. What was put in place of what is remembered,
too: who renames a variable renames it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .guess import Grade, Guess
from .suffixes import Suffixes

_SURE = 4
"""Tokens that a match must have for its passage to be followed."""

_LONGEST = 12
"""Tokens of a change, on either side, beyond which the passage is given up."""

_AGREED = 2
"""Tokens behind a change that must agree for it to be over."""

_BORDERS = (0, 1, 2, 4, 8, 16)
_CHANCES = (0.3, 0.5, 0.65, 0.8, 0.9, 0.95)
_GRADES = tuple(Grade("edits", *each) for each in zip(_BORDERS, _CHANCES, strict=True))
"""By the least number of tokens that have agreed since the newest change."""

_REPLACED = Grade("replaced", 0, 0.6)


@dataclass(frozen=True)
class _Change:
    """Where a change began: in the passage, and in the text."""

    source: int
    target: int


class Edits:
    """Guesses along a copied passage. `suffixes` is given each token before this is."""

    def __init__(self, suffixes: Suffixes) -> None:
        self._suffixes = suffixes
        self._text = suffixes.text
        self._length = 0
        # Where the passage goes on, and how many tokens have agreed with it since the last change.
        self._source: int | None = None
        self._agreed = 0
        self._change: _Change | None = None
        # What is still to come of a replacement.
        self._pending: tuple[int, ...] = ()
        # By the first token of what is replaced: all of that, and what stands in its place.
        self._replaced: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def push(self, token: int) -> None:
        """The text has grown by a token."""
        if self._source is not None:
            self._advance(self._source, token)
        self._length += 1
        match = self._suffixes
        # Another passage has to be clearly the better one.
        enough = _SURE if self._source is None else max(_SURE, 2 * self._agreed + 1)
        if match.match_len >= enough and match.match_end != self._source:
            self._source, self._agreed = match.match_end, match.match_len
            self._change, self._pending = None, ()

    def guesses(self) -> Iterator[Guess]:
        """The passage's next tokens, with everything replaced that was replaced before."""
        if self._source is None:
            return
        source, agreed = self._source, self._agreed
        for token in self._pending:
            yield Guess(token, _REPLACED)
        while source < self._length:
            if found := self._replacement(source):
                for token in found[1]:
                    yield Guess(token, _REPLACED)
                source += len(found[0])
                continue
            yield Guess(self._text[source], _grade(agreed))
            source, agreed = source + 1, agreed + 1

    def _advance(self, source: int, token: int) -> None:
        """Compares the newest token with the passage at `source`."""
        if self._pending:
            if token == self._pending[0]:
                self._pending = self._pending[1:]
                return
            self._pending = ()
        elif found := self._replacement(source):
            before, after = found
            if token == after[0]:
                self._source, self._pending = source + len(before), after[1:]
                return
            del self._replaced[before[0]]
        if token == self._text[source]:
            self._source, self._agreed = source + 1, self._agreed + 1
            if self._change is not None and self._agreed >= _AGREED:
                self._learn(self._change, source + 1 - self._agreed)
            return
        if self._change is None:
            self._change = _Change(source, self._length)
        self._realign(self._change)

    def _realign(self, change: _Change) -> None:
        """Finds where the passage goes on, from what has come since the change began."""
        length = self._length + 1
        best, agreed = change.source + length - change.target, 0
        for source in range(change.source + 1, min(change.source + _LONGEST, length)):
            number = self._agreement(change, source)
            if number > agreed:
                best, agreed = source, number
        self._source, self._agreed = best, agreed
        if length - change.target > _LONGEST or best >= length:
            self._source, self._change = None, None

    def _agreement(self, change: _Change, source: int) -> int:
        """How many tokens before `source` are the newest ones of the text, within the change."""
        length = self._length + 1
        number, most = 0, min(source - change.source, length - change.target)
        while number < most and self._text[source - 1 - number] == self._text[length - 1 - number]:
            number += 1
        return number

    def _learn(self, change: _Change, end: int) -> None:
        """A change of the passage up to `end` is over: it is expected wherever the same comes."""
        before = tuple(self._text[change.source : end])
        after = tuple(self._text[change.target : self._length + 1 - self._agreed])
        if before and after:
            self._replaced[before[0]] = before, after
        self._change = None

    def _replacement(self, source: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        if self._change is not None:
            return None
        found = self._replaced.get(self._text[source]) if source < self._length else None
        return found if found and self._is_at(source, found[0]) else None

    def _is_at(self, source: int, tokens: tuple[int, ...]) -> bool:
        return tuple(self._text[source : min(source + len(tokens), self._length)]) == tokens


def _grade(agreed: int) -> Grade:
    return next(g for g in reversed(_GRADES) if g.level <= agreed)
