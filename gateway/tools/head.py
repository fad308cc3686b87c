"""Reads a text that is still coming: generators that wait where there is no more of it."""

from __future__ import annotations

from collections.abc import Generator

from .literal import Literal
from .tape import Tape

Reads = Generator[None, None, None]


class Over(Exception):
    """No more text comes."""


class NoCall(Exception):
    """What comes is no call."""


class Head:
    """Moves over a tape; once `closed`, it no longer waits but raises `Over`."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.closed = False

    def more(self) -> Reads:
        """Waits for more text."""
        if self.closed:
            raise Over
        yield

    def letter(self) -> Generator[None, None, str]:
        """The next letter, which stays unread."""
        while self.tape.at >= len(self.tape.unread):
            yield from self.more()
        return self.tape.unread[self.tape.at]

    def comes(self, mark: str) -> Generator[None, None, bool]:
        """Whether this stands next; it stays unread."""
        tape = self.tape
        while mark.startswith(tape.unread[tape.at :]) and tape.at + len(mark) > len(tape.unread):
            yield from self.more()
        return tape.unread.startswith(mark, tape.at)

    def literal(self, *texts: str) -> Generator[None, None, str]:
        """Reads one of these coded texts, with spaces as models set them. Raises `NoCall`.

        Where one begins with another, the letter behind that decides.
        """
        ways = [Literal(text) for text in texts]
        while True:
            done = [way for way in ways if way.finished]
            ways = [way for way in ways if not way.finished]
            if done and not ways:
                return done[0].text
            letter = yield from self.letter()
            ways = [way for way in ways if way.step(letter)]
            if not ways:
                if done:
                    return done[0].text
                raise NoCall
            self.tape.read(self.tape.at + 1)

    def until(self, ends: frozenset[str], most: int) -> Generator[None, None, str]:
        """Reads up to one of these letters, which stays unread. Raises `NoCall` if it is far."""
        letters = []
        while (letter := (yield from self.letter())) not in ends:
            letters.append(letter)
            self.tape.read(self.tape.at + 1)
            if len(letters) > most:
                raise NoCall
        return "".join(letters)
