"""Labels whose values come from outside: kept few, as each of them costs memory for ever."""

from __future__ import annotations

OTHER = "other"
"""The label of all that come after the first ones."""

MOST = 64


class Bounded:
    """Keeps the values of a label few: those that come late are all the same."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, value: str) -> str:
        """The value to use."""
        if value not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(value)
        return value
