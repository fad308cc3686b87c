"""What a peer spends: watts now, and joules for each position lately. Policy alone, no clock."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from .meter import Source, Spent

WINDOW = 60.0
"""Seconds over which joules per position are told."""

_NOW = 10.0
"""Seconds over which watts are."""


@dataclass(frozen=True)
class _Sample:
    seconds: float
    joules: float
    num_positions: int


class Account:
    """Sums up what was spent, sample by sample."""

    def __init__(self) -> None:
        self.joules: defaultdict[Source, float] = defaultdict(float)
        """Ours, since the beginning."""
        self.machine_joules: defaultdict[Source, float] = defaultdict(float)
        """Everybody's, where something was measured."""
        self.per_position = 0.0
        """Joules for each position lately; 0 until one was computed. Without any it stays."""
        self._samples: deque[_Sample] = deque()

    def note(
        self, seconds: float, spent: Sequence[tuple[Source, Spent]], num_positions: int
    ) -> None:
        """For so long, so much was spent, and so many positions were computed."""
        for source, each in spent:
            self.joules[source] += each.ours
            self.machine_joules[source] += each.machine
        joules = sum(each.ours for _, each in spent)
        self._samples.append(_Sample(seconds, joules, num_positions))
        while sum(sample.seconds for sample in self._samples) > WINDOW + seconds:
            self._samples.popleft()
        # What is spent while nothing is asked is no cost of an answer.
        working = [sample for sample in self._samples if sample.num_positions]
        if working:
            computed = sum(sample.num_positions for sample in working)
            self.per_position = sum(sample.joules for sample in working) / computed

    @property
    def watts(self) -> float:
        """Ours, on an average of the last seconds."""
        seconds = joules = 0.0
        for sample in reversed(self._samples):
            seconds += sample.seconds
            joules += sample.joules
            if seconds >= _NOW:
                break
        return joules / seconds if seconds else 0.0
