"""NVIDIA's cards, through the library of their driver (https://docs.nvidia.com/deploy/nvml-api/)."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from .apportion import of_card, plausible, risen
from .meter import Source, Spent, Usage


class Nvml:
    """One card: its counter (since Volta), else its power, as a mean of two looks."""

    source = Source.NVML

    def __init__(self, uuid: str, library: Any = None) -> None:
        """The card with this id, such as `GPU-8f6d…`; raises `OSError` if nothing tells of it."""
        self._library = library = _library() if library is None else library
        try:
            library.nvmlInit()
            self._card = library.nvmlDeviceGetHandleByUUID(uuid)
            self._counts = self._has_counter()
            self._last = self._read()
        except library.NVMLError as error:
            raise OSError(f"the driver does not tell: {error}") from error
        self._looked = 0

    def spent(self, usage: Usage) -> Spent | None:
        """See `Meter.spent`."""
        try:
            before, self._last = self._last, self._read()
            loads = self._loads()
        except self._library.NVMLError:
            return None
        if self._counts:
            joules = risen(before, self._last, 0) / 1e3
        else:
            joules = (before + self._last) / 2e3 * usage.seconds
        return of_card(plausible(joules, usage.seconds), os.getpid(), loads)

    def _has_counter(self) -> bool:
        try:
            self._library.nvmlDeviceGetTotalEnergyConsumption(self._card)
        except self._library.NVMLError_NotSupported:
            return False
        return True

    def _read(self) -> int:
        """Millijoules since the driver was loaded, or milliwatts."""
        if self._counts:
            return int(self._library.nvmlDeviceGetTotalEnergyConsumption(self._card))
        return int(self._library.nvmlDeviceGetPowerUsage(self._card))

    def _loads(self) -> dict[int, float | None]:
        """Who computes on the card, and how much of its time each has used lately."""
        library, card = self._library, self._card
        users = [each.pid for each in library.nvmlDeviceGetComputeRunningProcesses(card)]
        loads: dict[int, float | None] = dict.fromkeys(users)
        if len(users) > 1:
            # Not every card tells, and none where nobody has used it since.
            with suppress(library.NVMLError):
                for each in library.nvmlDeviceGetProcessUtilization(card, self._looked):
                    self._looked = max(self._looked, each.timeStamp)
                    if each.pid in loads:
                        loads[each.pid] = float(each.smUtil)
        return loads


def _library() -> Any:
    import pynvml

    return pynvml
