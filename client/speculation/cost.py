"""What a step costs by its rows, from the steps of this very reply.

`seconds(rows) = fixed + rows * per_row`. The fixed part holds the round trip and the reading of the
weights, which one row needs as much as ten; the other is what each row takes to be computed and
carried.
"""

from __future__ import annotations

from dataclasses import dataclass

_MEMORY = 0.95
"""What a step leaves of the weight of those before it: peers get busy, routes change."""

_RIDGE = 32.0
"""How firmly `per_row` stays what it was taken for, in squared rows: a window of 7 rows among steps
of one row is about as firm."""

_OUTLIER = 4.0
"""So many times what was expected is the most that one step is believed, once some have been seen.
"""

_SOME = 2.0
"""Steps' worth of weight."""

_PRESUMED = 0.05
"""The weight of what is presumed of a step: nearly nothing as soon as one has been seen."""

_LEAST = 1e-6
"""Seconds, so that in simulated time there is something to divide by."""


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over steps: of the weights, rows, seconds, squared rows, rows times seconds."""

    weight: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    square: float = 0.0
    product: float = 0.0

    def with_step(self, rows: int, seconds: float, weight: float, share: float) -> _Sums:
        """With one more step, and `share` of what there was."""
        return _Sums(
            share * self.weight + weight,
            share * self.rows + weight * rows,
            share * self.seconds + weight * seconds,
            share * self.square + weight * rows * rows,
            share * self.product + weight * rows * seconds,
        )


class StepCost:
    """A straight line through the times of steps: least squares with fading weights."""

    def __init__(self, first: float = 0.0, per_row: float = 0.0) -> None:
        """What is taken for true at the beginning, in seconds: a step of one row, each row more.

        With `first` 0, nothing is known before a step has been noted.
        """
        self._presumed = per_row
        self._sums = _Sums().with_step(1, first, _PRESUMED, 0.0) if first else _Sums()
        self._fit()

    @property
    def known(self) -> bool:
        """Whether there is anything to go by."""
        return self._sums.weight > 0

    def note(self, rows: int, seconds: float) -> None:
        """A step of so many rows has taken so long."""
        if self._sums.weight >= _SOME:
            seconds = min(seconds, _OUTLIER * self.seconds(rows))
        self._sums = self._sums.with_step(rows, seconds, 1.0, _MEMORY)
        self._fit()

    def seconds(self, rows: int) -> float:
        """What a step of so many rows is expected to take."""
        return max(_LEAST, self._fixed + self._per_row * rows)

    def _fit(self) -> None:
        sums = self._sums
        if not sums.weight:
            self._fixed, self._per_row = 0.0, self._presumed
            return
        mean_rows = sums.rows / sums.weight
        spread = sums.square - sums.rows * mean_rows
        slope = sums.product - sums.seconds * mean_rows
        self._per_row = max(0.0, (slope + _RIDGE * self._presumed) / (spread + _RIDGE))
        self._fixed = sums.seconds / sums.weight - self._per_row * mean_rows
