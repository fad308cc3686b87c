"""How long a step may take before it counts as lost: an estimate from those before it."""

from __future__ import annotations

_ENOUGH = 8
"""Steps after which the estimate is trusted."""


class Pace:
    """The time of short steps, smoothed as TCP smooths round trips (RFC 6298, section 2).

    `first` is the patience in seconds while little is known, `least` the least that a patience
    ever is.
    """

    def __init__(self, first: float, least: float) -> None:
        self._first, self._least = first, least
        self._mean = 0.0
        self._deviation = 0.0
        self._num = 0

    def note(self, seconds: float) -> None:
        """A step has taken so long, without any trouble."""
        if not self._num:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            self._deviation += 0.25 * (abs(seconds - self._mean) - self._deviation)
            self._mean += 0.125 * (seconds - self._mean)
        self._num += 1

    @property
    def patience(self) -> float:
        """Seconds after which a short step is out of the ordinary."""
        if self._num < _ENOUGH:
            return self._first
        return min(self._first, max(self._least, self._mean + 8 * self._deviation))
