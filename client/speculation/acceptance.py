"""How often guesses come true, by grade; learned from every token, whether it was sent or not."""

from __future__ import annotations

from collections.abc import Sequence

from .guess import Grade, Guess

_PRIOR = 3.0
"""How many guesses of its own a grade's presumed chance is worth."""

_MEMORY = 0.99
"""What a token leaves of the weight of those before it: texts change their ways."""


class Acceptance:
    """The record of one reply's guesses."""

    def __init__(self) -> None:
        self._right: dict[Grade, float] = {}
        self._number: dict[Grade, float] = {}

    def chance(self, grade: Grade) -> float:
        """How probable it is that a guess of this grade comes true, between 0 and 1."""
        right, number = self._right.get(grade, 0.0), self._number.get(grade, 0.0)
        return (right + _PRIOR * grade.chance) / (number + _PRIOR)

    def note(self, guesses: Sequence[Guess], tokens: Sequence[int]) -> None:
        """Tokens have come for which there were `guesses`: those after a wrong one say nothing."""
        for guess, token in zip(guesses, tokens, strict=False):
            right = guess.token == token
            self._right[guess.grade] = self._right.get(guess.grade, 0.0) + right
            self._number[guess.grade] = self._number.get(guess.grade, 0.0) + 1
            if not right:
                return

    def forget(self, num_tokens: int) -> None:
        """So many tokens have come: what was learned before them counts a little less."""
        share = _MEMORY**num_tokens
        for grade in self._number:
            self._right[grade] *= share
            self._number[grade] *= share
