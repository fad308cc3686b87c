"""Wrong keys, by where they come from: who brings many is answered slowly, and then no more.

Keys have 256 random bits, which nobody finds by trying. This keeps who tries from taking time and
from filling logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_MOST_KNOWN = 1024
_BUDGET = 10.0
"""Wrong keys in a row from one address; one comes back in six seconds."""

_PER_SECOND = 1 / 6
_DELAY = 0.5
_MOST_DELAYED = 16
"""Of those who wait for their answer: others have theirs at once, so that none takes a place."""


class Attempts:
    """What addresses have tried lately; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: dict[str, tuple[float, float]] = {}
        self._num_delayed = 0

    async def failed(self, address: str) -> bool:
        """A wrong key has come from there; returns, not at once, whether it may try others."""
        debt = self._debt(address) + 1.0
        self._failed.pop(address, None)
        if len(self._failed) >= _MOST_KNOWN:
            del self._failed[next(iter(self._failed))]
        self._failed[address] = min(debt, 2 * _BUDGET), self._clock()
        if self._num_delayed < _MOST_DELAYED:
            self._num_delayed += 1
            try:
                await asyncio.sleep(_DELAY)
            finally:
                self._num_delayed -= 1
        return debt <= _BUDGET

    def _debt(self, address: str) -> float:
        debt, then = self._failed.get(address, (0.0, 0.0))
        return max(0.0, debt - (self._clock() - then) * _PER_SECOND)
