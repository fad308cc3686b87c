"""A suffix automaton of a growing text: where its end has occurred before, and how far back.

After A. Blumer et al., "The smallest automaton recognizing the subwords of a text", Theoretical
Computer Science 40 (1985): a push takes constant time on average, and the suffix link of the
newest state is the longest end of the text that has occurred before.
"""

from __future__ import annotations

_MAX_ANCESTORS = 16
"""Shorter ends whose newest occurrence is brought up to date with each token. Those beyond keep an
older one, which is an occurrence as well."""


class Suffixes:
    """The text itself, and its longest end that it holds elsewhere."""

    def __init__(self) -> None:
        self.text: list[int] = []
        self.match_len = 0
        """Tokens of the longest end of the text that has occurred before."""
        self.match_end = 0
        """Where its newest occurrence before that one ends: what followed it begins here."""
        self._next: list[dict[int, int]] = [{}]
        self._link = [-1]
        self._len = [0]
        self._end = [0]
        self._last = 0

    def push(self, token: int) -> None:
        """Appends a token."""
        self.text.append(token)
        state = self._new_state(len(self.text), {}, 0, len(self.text))
        before = self._last
        while before >= 0 and token not in self._next[before]:
            self._next[before][token] = state
            before = self._link[before]
        if before >= 0:
            self._link[state] = self._suffix(before, token)
        self._last = state
        link = self._link[state]
        self.match_len, self.match_end = self._len[link], self._end[link]
        for _ in range(_MAX_ANCESTORS):
            if link <= 0:
                break
            self._end[link] = len(self.text)
            link = self._link[link]

    def _suffix(self, before: int, token: int) -> int:
        """The state of the string of `before` followed by `token`, apart from longer ones."""
        longer = self._next[before][token]
        if self._len[longer] == self._len[before] + 1:
            return longer
        clone = self._new_state(
            self._len[before] + 1,
            dict(self._next[longer]),
            self._link[longer],
            self._end[longer],
        )
        self._link[longer] = clone
        while before >= 0 and self._next[before].get(token) == longer:
            self._next[before][token] = clone
            before = self._link[before]
        return clone

    def _new_state(self, size: int, next_: dict[int, int], link: int, end: int) -> int:
        self._next.append(next_)
        self._link.append(link)
        self._len.append(size)
        self._end.append(end)
        return len(self._len) - 1
