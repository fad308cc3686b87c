"""Apple's chips, whose counters the library `zeus-apple-silicon` reads (it needs no root).

Its `AppleEnergyMonitor.get_cumulative_energy` gives millijoules by part of the chip, None for what
a chip does not tell.
"""

from __future__ import annotations

from typing import Any

from .apportion import of_cpu, plausible, risen
from .meter import Source, Spent, Usage

CPU = ("cpu_total_mj", "dram_mj")
GPU = ("gpu_mj", "gpu_sram_mj")


class Apple:
    """Some parts of the chip: `CPU`, of which ours is apportioned, or `GPU`, which is all ours."""

    source = Source.APPLE

    def __init__(self, parts: tuple[str, ...], monitor: Any = None) -> None:
        """Raises `OSError` where the library or the counters are not there."""
        self._parts = parts
        try:
            self._monitor = _monitor() if monitor is None else monitor
            self._last = self._read()
        except (ImportError, RuntimeError) as error:
            raise OSError(f"Apple's counters are not there: {error}") from error

    def spent(self, usage: Usage) -> Spent | None:
        """See `Meter.spent`."""
        try:
            before, self._last = self._last, self._read()
        except RuntimeError:
            return None
        joules = plausible(risen(before, self._last, 0) / 1e3, usage.seconds)
        return of_cpu(joules, usage) if self._parts == CPU else Spent(joules, joules)

    def _read(self) -> int:
        told = self._monitor.get_cumulative_energy()
        values = [getattr(told, part, None) for part in self._parts]
        if all(value is None for value in values):
            raise RuntimeError("this chip does not tell")
        return sum(int(value) for value in values if value is not None)


def _monitor() -> Any:
    from zeus_apple_silicon import AppleEnergyMonitor

    return AppleEnergyMonitor()
