"""When a peer has to pause, and why: its owner's hours, and others who use the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from . import devices
from .busyness import Busyness
from .config import PeerConfig
from .hours import Hours
from .others import CpuOfOthers, Others


@dataclass(frozen=True)
class Pause:
    """Why a peer pauses, and when it means to be back (Unix seconds; 0: nobody knows)."""

    why: str
    resumes: float = 0.0


class Pauses:
    """Looks at the clock and at the machine. Without `hours` and `others` there is no pause."""

    def __init__(
        self,
        hours: Sequence[str] = (),
        others: Sequence[Others] = (),
        busyness: Busyness | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hours = Hours(hours) if hours else None
        self._others = tuple(others)
        self._busyness = busyness or Busyness()
        self._clock, self._monotonic = clock, monotonic
        self._resumes = 0.0

    @classmethod
    def of(cls, config: PeerConfig, device: torch.device) -> Pauses:
        """The pauses that a config asks for on a machine that computes with `device`."""
        others: list[Others] = []
        if config.pause_when_busy:
            others.append(CpuOfOthers())
            if (gpu := devices.others(device)) is not None:
                others.append(gpu)
        return cls(config.hours, others, Busyness(config.busy))

    @property
    def any(self) -> bool:
        """Whether there can be a pause at all."""
        return self.hours is not None or bool(self._others)

    def look(self) -> Pause | None:
        """The pause that is to be now, if any; called every second or so."""
        # Measured also outside the hours: what is then known holds when they begin.
        busy = self._look_at_others()
        now = self._clock()
        if self.hours is not None and not self.hours.contain(now):
            if self._resumes <= now:
                self._resumes = self.hours.next_change(now) or 0.0
            return Pause("outside its hours", self._resumes)
        self._resumes = 0.0
        return Pause("others use this machine") if busy else None

    def _look_at_others(self) -> bool:
        if not self._others:
            return False
        share = max(other.look() for other in self._others)
        return self._busyness.note(share, self._monotonic())
