"""How long a step may take before it counts as lost: an estimate from those before it."""

from __future__ import annotations

from .config import SessionConfig
from .route import Route

_SHORT = 64
"""Positions of a step whose time is compared with that of the steps before it: a token, perhaps
with guesses. Longer ones are prompts."""

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


class Patience:
    """How long one session waits for a step's outputs."""

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self._pace = Pace(config.step_patience, config.least_step_patience)

    def note(self, num_positions: int, seconds: float) -> None:
        """A step has taken so long, without any trouble."""
        if num_positions <= _SHORT:
            self._pace.note(seconds)

    def seconds(self, num_positions: int, lacking: int, route: Route, silences: int) -> float:
        """Seconds without output (a long prompt's comes chunk by chunk) until a step is lost.

        Each hop may first have to finish a batch of others' prompts, as large as four chunks, and
        hops that lack positions which others hold are silent until they have them: `lacking` in
        all, for this session and others. Twice as long after each of the step's `silences`.
        """
        usual = self._pace.patience if num_positions <= _SHORT else self._config.step_patience
        per_position = sum(hop.prefill_seconds for hop in route)
        ahead = 4 * self._config.chunk_len + lacking
        return float((usual + ahead * per_position) * 2**silences)
