"""When a peer has to pause, and why: its owner's hours, and others who use the machine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from swarm.errors import SwarmError

from . import devices
from .busyness import Busyness
from .config import PeerConfig
from .hours import Hours
from .others import CpuOfOthers, Others

if TYPE_CHECKING:
    from .service import Peer

logger = logging.getLogger(__name__)

_RETRY = 15.0
"""Seconds after which a peer that could not come back from a pause tries again."""


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

    async def keep(self, peer: Peer) -> None:
        """Has a peer pause and come back, until it is cancelled."""
        while True:
            await asyncio.sleep(peer.config.pause_interval)
            pause = self.look()
            if pause is not None and not peer.paused:
                await peer.begin_pause(pause)
            elif pause is not None:
                peer.pause = pause
            elif peer.paused:
                try:
                    await peer.end_pause()
                except SwarmError as error:
                    logger.warning("still paused why=%s", error)
                    await asyncio.sleep(_RETRY)

    def _look_at_others(self) -> bool:
        if not self._others:
            return False
        share = max(other.look() for other in self._others)
        return self._busyness.note(share, self._monotonic())
