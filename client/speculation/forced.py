"""Guesses that a reply's grammar makes: where only one token may come, it will come."""

from __future__ import annotations

from collections.abc import Iterator

from ..grammar.matcher import Matcher
from .guess import Grade, Guess

_GRADE = Grade("grammar", 0, 0.99)


class Forced:
    """Guesses what the grammar forces: names, quotes and brackets of JSON with a schema.

    The matcher is the sampler's own, which has been told of every token that was drawn.
    """

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher

    def push(self, token: int) -> None:
        """The text has grown by a token, which the matcher knows."""

    def guesses(self) -> Iterator[Guess]:
        """What is forced, up to where the model has a choice again."""
        return (Guess(token, _GRADE) for token in self._matcher.forced())
