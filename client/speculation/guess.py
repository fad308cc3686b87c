"""What drafters say: tokens that may come next, and what each is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True)
class Grade:
    """How sure a drafter is of a guess. Guesses of one grade come true about equally often.

    `chance` is what that is taken for until the reply itself has shown it.
    """

    drafter: str
    level: int
    chance: float


class Guess(NamedTuple):
    """One token that may come next, given that all guesses before it come true."""

    token: int
    grade: Grade


class Drafter(Protocol):
    """Guesses how a text goes on, in no time worth counting."""

    def push(self, token: int) -> None:
        """The text has grown by a token."""

    def guesses(self) -> Iterator[Guess]:
        """The next tokens, as far as anybody wants to know; none where nothing suggests itself."""


class SlowDrafter(Drafter, Protocol):
    """One whose guesses are computed: each takes about `seconds`, and is made in a thread."""

    seconds: float

    def prepare(self) -> None:
        """Does what has to be done once for the text so far."""
