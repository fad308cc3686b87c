"""Prompt lookup: what followed the same words before may follow them again.

Nothing is computed for it. It guesses well wherever an answer repeats its prompt or itself: edits
of code, quotations, tables, lists. The idea is A. Saxena's ("Prompt lookup decoding", 2023); here
the longest end of the text that occurs elsewhere is found at any length (`suffixes.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from .guess import Grade, Guess
from .suffixes import Suffixes

_BORDERS = (1, 2, 3, 4, 6, 9, 16, 32)
_CHANCES = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.95)
_GRADES = tuple(Grade("lookup", *each) for each in zip(_BORDERS, _CHANCES, strict=True))
"""By the least length of the match: how often a guess comes true, about, in text of all kinds."""


class Lookup:
    """Guesses that the text goes on as it did where its longest repeated end occurred last.

    `suffixes` gets the text from here, and may be read by others.
    """

    def __init__(self, suffixes: Suffixes) -> None:
        self._suffixes = suffixes

    def push(self, token: int) -> None:
        """The text has grown by a token."""
        self._suffixes.push(token)

    def guesses(self) -> Iterator[Guess]:
        """What followed; where it reaches the text's end, what would then repeat itself."""
        text, match_len = self._suffixes.text, self._suffixes.match_len
        start = self._suffixes.match_end
        if not match_len:
            return
        level, period = 0, len(text) - start
        for depth in range(1 << 16):
            # Each guess that comes true makes the match longer by one.
            while level + 1 < len(_BORDERS) and _BORDERS[level + 1] <= match_len + depth:
                level += 1
            yield Guess(text[start + depth % period], _GRADES[level])
