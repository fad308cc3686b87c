"""Callers: how much of the desk's time each of those who come may take.

Anybody can knock there. What they can guess at is 128 bits long, so that limits only protect the
desk's time; who comes under many ids is held off by the number of streams in all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from swarm.errors import ConfigError
from swarm.wire.enrolment import Decline

from .denial import NotGranted

_MAX_KNOWN = 4096


@dataclass(frozen=True)
class CallerConfig:
    """What one caller may take; times in seconds.

    There are `max_streams` at once, `caller_streams` of them from any one caller. A question costs
    one and a vain one `vain_cost`; a caller has `budget` of these and gets one back per second, and
    so has a machine for which its programs ask. `max_streams` is more than `transport.gate` lets
    strangers have together: else their silence would fill the desk.
    """

    max_streams: int = 128
    caller_streams: int = 4
    budget: float = 60.0
    vain_cost: float = 6.0

    def __post_init__(self) -> None:
        if min(self.max_streams, self.caller_streams) < 1 or self.budget < 1 or self.vain_cost < 1:
            raise ConfigError("a desk's limits must let somebody in")


class Callers:
    """Who is at the desk, and what each has cost lately; `clock` counts seconds."""

    def __init__(self, config: CallerConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._present: Counter[str] = Counter()
        self._spent: dict[str, tuple[float, float]] = {}

    @contextmanager
    def attended(self, peer: str) -> Iterator[None]:
        """Takes a caller's question; raises `NotGranted` if it has had more than its share."""
        config = self._config
        if self._present.total() >= config.max_streams:
            raise NotGranted(Decline.BUSY, "too many ask at once; try again in a moment")
        if self._present[peer] >= config.caller_streams or self._debt(peer) >= config.budget:
            raise NotGranted(Decline.BUSY, "you ask too often; try again in a minute")
        self._charge(peer, 1.0)
        self._present[peer] += 1
        try:
            yield
        finally:
            self._present[peer] -= 1
            if not self._present[peer]:
                del self._present[peer]

    def charge(self, machine: str) -> None:
        """Charges a question to the machine whose program has asked it, and has proved that.

        Raises `NotGranted` like `attended`: a machine can make keys for programs without end.
        """
        if self._debt(machine) >= self._config.budget:
            raise NotGranted(Decline.BUSY, "programs of your machine ask too often; try again soon")
        self._charge(machine, 1.0)

    def refused(self, peer: str) -> None:
        """Notes that a caller has asked in vain."""
        self._charge(peer, self._config.vain_cost - 1.0)

    def _charge(self, peer: str, cost: float) -> None:
        debt = self._debt(peer) + cost
        self._spent.pop(peer, None)
        if len(self._spent) >= _MAX_KNOWN:
            del self._spent[next(iter(self._spent))]
        self._spent[peer] = debt, self._clock()

    def _debt(self, peer: str) -> float:
        debt, then = self._spent.get(peer, (0.0, 0.0))
        return max(0.0, debt - (self._clock() - then))
