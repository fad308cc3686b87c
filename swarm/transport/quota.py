"""What others may take of us: how it is counted, and when it is too much.

Policy alone, without sockets and clocks: times are seconds that the caller reads, holders are
whatever the caller counts by. Who does something about it is said in `docs/limits.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Quota(Generic[K]):
    """Amounts by holder: at most `each` for one of them, `total` for all."""

    def __init__(self, each: float, total: float) -> None:
        self._each, self._total = each, total
        self._held: Counter[K] = Counter()
        self.held = 0
        """What all hold together."""

    def of(self, holder: K) -> int:
        """What one of them holds."""
        return self._held[holder]

    def fits(self, holder: K, amount: int = 1) -> bool:
        """Whether so much more keeps within both limits."""
        return self._held[holder] + amount <= self._each and self.held + amount <= self._total

    def add(self, holder: K, amount: int = 1) -> None:
        """Counts so much more, whether it fits or not."""
        self._held[holder] += amount
        self.held += amount

    def remove(self, holder: K, amount: int = 1) -> None:
        """Counts so much less; it must have been counted."""
        assert self._held[holder] >= amount, "gives back more than was taken"
        self._held[holder] -= amount
        self.held -= amount
        if not self._held[holder]:
            del self._held[holder]

    @property
    def overflows(self) -> bool:
        """Whether all hold more together than they may."""
        return self.held > self._total

    @property
    def largest(self) -> K | None:
        """Who holds most."""
        return max(self._held, key=self._held.__getitem__, default=None)


class Allowance:
    """What one may spend: `rate` per second, and up to `burst` that it has not spent before."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left = burst
        self._counted_at = float("-inf")

    def spend(self, cost: float, now: float) -> None:
        """Takes the cost, whether it is there or not."""
        passed = now - self._counted_at
        self._left = min(self._burst, self._left + passed * self._rate) - cost
        self._counted_at = now

    def debt(self, now: float) -> float:
        """Seconds until what was spent is paid for."""
        return max(0.0, -self._left / self._rate - (now - self._counted_at))

    def full(self, now: float) -> bool:
        """Whether a new one would be the same."""
        return self._left + (now - self._counted_at) * self._rate >= self._burst


class Allowances(Generic[K]):
    """An `Allowance` for everybody; of those who have not spent for longest, some are forgotten."""

    def __init__(self, rate: float, burst: float, *, remembered: int = 1024) -> None:
        self._rate, self._burst, self._remembered = rate, burst, remembered
        self._all: dict[K, Allowance] = {}

    def spend(self, holder: K, cost: float, now: float) -> bool:
        """Takes the cost if it is there; whether it was."""
        allowance = self._all.pop(holder, None) or Allowance(self._rate, self._burst)
        self._all[holder] = allowance
        if len(self._all) > self._remembered:
            del self._all[next(iter(self._all))]
        if allowance.debt(now) > 0:
            return False
        allowance.spend(cost, now)
        return True


class Pace:
    """Whether what is due moves at all: at least `rate` bytes per second, over `window` seconds."""

    def __init__(self, rate: float, window: float) -> None:
        self._least, self._window = rate * window, window
        self._begin: tuple[float, int] | None = None

    def rest(self) -> None:
        """Nothing is due, or it is not the other side's fault that nothing moves."""
        self._begin = None

    def stalls(self, moved: int, now: float) -> bool:
        """Something is due, and `moved` bytes have moved up to now: is that too slow?"""
        if self._begin is None:
            self._begin = now, moved
        since, before = self._begin
        if now - since < self._window:
            return False
        self._begin = now, moved
        return moved - before < self._least
