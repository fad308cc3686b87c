"""Noticing that this machine was away: it slept, was stopped, or is in another network now.

Whatever was connected before may be dead without a word of it, announcements may have expired, and
nobody says so. Whoever keeps such things asks to be told, and looks at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import psutil

logger = logging.getLogger(__name__)

_INTERVAL = 1.0
_AWAY = 5.0
"""Seconds that passed beside those in which we waited: no busy machine is that slow."""

Clock = Callable[[], float]


def _clocks() -> Sequence[Clock]:
    """Clocks of which at least one goes on while a machine sleeps (clock_gettime(2))."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    asleep = [] if boot is None else [lambda: time.clock_gettime(boot)]
    return [time.monotonic, time.time, *asleep]


def own_addresses() -> frozenset[str]:
    """The IP addresses that this machine's interfaces have now."""
    found = psutil.net_if_addrs()
    return frozenset(
        entry.address
        for entries in found.values()
        for entry in entries
        if entry.family.name in ("AF_INET", "AF_INET6")
    )


class Absence:
    """Tells whoever watches when this machine comes back. `run` looks."""

    def __init__(
        self,
        clocks: Sequence[Clock] | None = None,
        addresses: Callable[[], frozenset[str]] = own_addresses,
    ) -> None:
        self._clocks = clocks if clocks is not None else _clocks()
        self._addresses = addresses
        self._watchers: list[Callable[[], None]] = []
        self._seen = [clock() for clock in self._clocks]
        self._own = addresses()

    def watch(self, on_return: Callable[[], None]) -> None:
        """Calls `on_return` from now on, each time."""
        self._watchers.append(on_return)

    async def run(self) -> None:
        """Looks every second, until it is cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            self.look(_INTERVAL)

    def look(self, waited: float) -> None:
        """Looks after so many seconds of waiting."""
        now, own = [clock() for clock in self._clocks], self._addresses()
        # A clock that was set counts as sleep: looking once too often costs little.
        away = max(after - before for after, before in zip(now, self._seen, strict=True)) - waited
        moved = own != self._own
        self._seen, self._own = now, own
        if away > _AWAY or moved:
            logger.info("back away=%.0fs other_addresses=%s", max(0.0, away), moved)
            for watcher in self._watchers:
                watcher()
