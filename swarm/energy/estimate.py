"""Where nothing tells: computing time, times what such a machine is thought to draw."""

from __future__ import annotations

from dataclasses import dataclass

from .apportion import estimated_card, estimated_cpu
from .meter import Source, Spent, Usage


@dataclass(frozen=True)
class Estimate:
    """By the time of a `card`, or of the cores; `watts` is what the machine draws under full load.

    0: not known, so it is guessed.
    """

    watts: float = 0.0
    card: bool = False
    source: Source = Source.ESTIMATE

    def spent(self, usage: Usage) -> Spent:
        """See `Meter.spent`; what others have spent is not known."""
        estimated = estimated_card if self.card else estimated_cpu
        return Spent(0.0, estimated(usage, self.watts))
