"""Text around names and arguments, matched letter by letter as it comes.

Models are not strict about spaces: there may be other ones, or none, wherever the syntax has some,
and beside the signs that JSON is made of.
"""

from __future__ import annotations

from .syntax import ID, INDEX, is_coded

_LOOSE = frozenset("{}[]:,")
_MOST_SPACES = 256


class Literal:
    """One way through a coded text; `finished` with its last letter that is no space."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._letters = letters_of(text)
        self._at = 0
        self._num_spaces = 0
        self._num_free = 0

    @property
    def finished(self) -> bool:
        """Whether all of it has come."""
        return self._at == len(self._letters)

    def step(self, letter: str) -> bool:
        """Whether it may go on with this letter."""
        expected, may_space = self._letters[self._at]
        if expected in (ID, INDEX):
            if letter.isdecimal() if expected == INDEX else letter.isalnum() or letter in "_-":
                self._num_free += 1
                return self._num_free <= _MOST_SPACES
            if not self._num_free:
                return False
            self._at, self._num_free = self._at + 1, 0
            return not self.finished and self.step(letter)
        if letter == expected:
            self._at += 1
            return True
        self._num_spaces += 1
        return may_space and letter.isspace() and self._num_spaces <= _MOST_SPACES


def letters_of(text: str) -> list[tuple[str, bool]]:
    """Letters that are no spaces, and whether there may be spaces before each."""
    found: list[tuple[str, bool]] = []
    may_space = True
    for letter in text:
        if letter.isspace():
            may_space = True
            continue
        is_loose = letter in _LOOSE or is_coded(letter)
        found.append((letter, may_space or is_loose))
        may_space = is_loose
    return found
