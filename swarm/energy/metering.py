"""Reads a process' meters now and then, and keeps the account."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from .account import Account
from .estimate import Estimate
from .meter import Meter, Source, Spent, Usage

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks."""


@dataclass(frozen=True)
class Work:
    """What a process has done since it started: positions, and seconds for which it computed."""

    num_positions: int = 0
    computing_seconds: float = 0.0


@dataclass(frozen=True)
class Clocks:
    """Seconds, all since some time: that passed, that we had a core, that anybody had one."""

    wall: float
    cpu: float
    busy: float


def clocks() -> Clocks:
    """As they stand; time in which a core waited for the disk is not busy."""
    machine = psutil.cpu_times()
    # Guests' time is in user's already, and what a hypervisor took away was none of ours.
    names = ("user", "nice", "system", "irq", "softirq")
    busy = sum(getattr(machine, name, 0.0) for name in names)
    own = time.process_time()
    return Clocks(time.monotonic(), own, busy)


class Metering:
    """What this process spends by its `meters`; `run` reads them.

    The first is the device's. If it ends (a driver was taken out, say), `instead` goes on.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        *,
        instead: Meter | None = None,
        read_clocks: Callable[[], Clocks] = clocks,
    ) -> None:
        self.account = Account()
        self._meters = list(meters)
        self._instead = instead or Estimate()
        self._read_clocks = read_clocks
        self._clocks = read_clocks()
        self._work = Work()
        self._cores = os.cpu_count() or 1

    @property
    def source(self) -> Source:
        """How it is known; an estimate if any part of it is one."""
        sources = [meter.source for meter in self._meters]
        return Source.ESTIMATE if Source.ESTIMATE in sources else sources[0]

    @property
    def announced(self) -> dict[str, Any]:
        """Fields of an announcement."""
        account = self.account
        told = {"watts": account.watts, "joules": account.per_position}
        return {**told, "energy": str(self.source)}

    async def run(self, work: Callable[[], Work]) -> None:
        """Looks now and every `INTERVAL` until cancelled.

        What was spent before, on loading weights say, is no cost of what is computed from now on.
        """
        while True:
            # A driver may take its time.
            self._note(*await asyncio.to_thread(self._measure, work()))
            await asyncio.sleep(INTERVAL)

    def look(self, work: Work) -> None:
        """Reads all meters; `work` is what has been done until now."""
        self._note(*self._measure(work))

    def _measure(self, work: Work) -> tuple[Usage, list[tuple[Source, Spent]], int]:
        before, self._clocks = self._clocks, self._read_clocks()
        done, self._work = self._work, work
        usage = Usage(
            seconds=self._clocks.wall - before.wall,
            cpu_seconds=max(0.0, self._clocks.cpu - before.cpu),
            busy_seconds=max(0.0, self._clocks.busy - before.busy),
            computing_seconds=max(0.0, work.computing_seconds - done.computing_seconds),
            cores=self._cores,
        )
        return usage, self._spent(usage), max(0, work.num_positions - done.num_positions)

    def _note(
        self, usage: Usage, spent: Sequence[tuple[Source, Spent]], num_positions: int
    ) -> None:
        if usage.seconds > 0:
            self.account.note(usage.seconds, spent, num_positions)

    def _spent(self, usage: Usage) -> list[tuple[Source, Spent]]:
        told = [(meter, meter.spent(usage)) for meter in self._meters]
        if any(found is None for _, found in told):
            lost = [meter for meter, found in told if found is None]
            logger.warning("energy meter lost source=%s", ",".join(each.source for each in lost))
            # What is left beside a card says nothing of it.
            main = self._meters[0] in lost
            self._meters = [meter for meter, found in told if found and not main] or [self._instead]
        return [(meter.source, found) for meter, found in told if found is not None]
