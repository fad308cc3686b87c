"""A histogram that costs next to nothing while a peer computes: one thread, no locks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Bounds for what happens at each step."""

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Bounds for what there are few or many of."""


class Buckets:
    """Counts values by size; `bounds` are the largest value of each bucket, rising."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0
        """The sum of all values."""

    def note(self, value: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def cumulative(self) -> list[tuple[str, float]]:
        """How many were at most each bound, as Prometheus wants it."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, accumulate(self._counts), strict=True))
