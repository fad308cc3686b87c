"""A reply's text as it comes: what has been read of it, and what may still have to be said."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.client import ChosenToken

    Tokens = tuple[ChosenToken, ...]


@dataclass(frozen=True)
class Spoken:
    """Coded text and its tokens. A token that is cut in two belongs to what comes first."""

    text: str
    tokens: Tokens = ()


class Tape:
    """Text behind a head that reads it, kept until it is `take`n; and text still to be read."""

    def __init__(self) -> None:
        self._kept: deque[Spoken] = deque()
        self._num_read = 0
        self.unread = ""
        self._at = 0

    def push(self, spoken: Spoken) -> None:
        """More text."""
        self._kept.append(spoken)
        self.unread = self.unread[self._at :] + spoken.text
        self._at = 0

    @property
    def at(self) -> int:
        """Where the head stands in `unread`."""
        return self._at

    def read(self, end: int) -> str:
        """Moves the head to this place in `unread`; returns what it passes."""
        passed = self.unread[self._at : end]
        self._at += len(passed)
        self._num_read += len(passed)
        return passed

    @property
    def num_read(self) -> int:
        """Letters behind the head that are still kept."""
        return self._num_read

    def take(self, count: int) -> Spoken:
        """The first `count` letters that are kept behind the head; they are kept no longer."""
        assert count <= self._num_read
        self._num_read -= count
        texts: list[str] = []
        tokens: list[ChosenToken] = []
        while self._kept and len(self._kept[0].text) <= count:
            spoken = self._kept.popleft()
            count -= len(spoken.text)
            texts.append(spoken.text)
            tokens.extend(spoken.tokens)
        if count:
            spoken = self._kept.popleft()
            texts.append(spoken.text[:count])
            tokens.extend(spoken.tokens)
            self._kept.appendleft(Spoken(spoken.text[count:]))
        return Spoken("".join(texts), tuple(tokens))
