"""What other programs use of this machine's processors: measured, between one look and the next."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Protocol

import psutil

_CHILDREN = 16
"""Looks between two searches for our own child processes: a search goes through all of the
machine's, and ours is one that stays (libp2p's daemon)."""


class Others(Protocol):
    """Somebody beside us on this machine."""

    def look(self) -> float:
        """The share (0 to 1) that others have used since the last look."""


class CpuOfOthers:
    """What others use of all cores: the machine's time, less what we and our children used.

    Work that others do at low priority (`nice`) gives way by itself and is not counted.
    """

    def __init__(self) -> None:
        self._self = psutil.Process()
        self._children: dict[int, tuple[psutil.Process, float]] = {}
        self._num_looks = 0
        self._ended = 0.0
        self._before = self._times()

    def look(self) -> float:
        """See `Others`."""
        total, busy, ours = self._times()
        total_before, busy_before, ours_before = self._before
        self._before = (total, busy, ours)
        passed = total - total_before
        if passed <= 0:
            return 0.0
        return min(1.0, max(0.0, (busy - busy_before - (ours - ours_before)) / passed))

    def _times(self) -> tuple[float, float, float]:
        """(all, busy, ours) seconds of all cores since each began."""
        times = psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in ("user", "system", "irq", "softirq"))
        # What runs inside a virtual machine is counted in `user` already.
        total = busy + sum(getattr(times, name, 0.0) for name in ("idle", "iowait", "nice"))
        return total, busy, 0.0 if self._nice else self._own()

    @property
    def _nice(self) -> bool:
        """Whether our own time is not in `user` either."""
        return hasattr(os, "getpriority") and os.getpriority(os.PRIO_PROCESS, 0) > 0

    def _own(self) -> float:
        if self._num_looks % _CHILDREN == 0:
            known = {child.pid for child in self._self.children(recursive=True)}
            for pid in known - self._children.keys():
                with contextlib.suppress(psutil.Error):
                    self._children[pid] = (psutil.Process(pid), 0.0)
        self._num_looks += 1
        for pid, (child, seconds) in list(self._children.items()):
            try:
                self._children[pid] = (child, _seconds(child))
            except psutil.Error:
                # What it has used does not come back: it stays in what all of us have used.
                self._ended += seconds
                del self._children[pid]
        mine = _seconds(self._self)
        return mine + self._ended + sum(seconds for _, seconds in self._children.values())


class GpuOfOthers:
    """What others use of one NVIDIA GPU, as its driver tells (NVML); `nvml` is that library."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self._seen = 0

    @classmethod
    def find(cls, uuid: str) -> GpuOfOthers | None:
        """The GPU that torch knows by this id; None where there is no NVML, or not this GPU."""
        try:
            import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

            pynvml.nvmlInit()
            for index in range(pynvml.nvmlDeviceGetCount()):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                if str(pynvml.nvmlDeviceGetUUID(handle)).removeprefix("GPU-") == uuid:
                    return cls(pynvml, index)
        except ImportError:
            return None
        except pynvml.NVMLError:
            return None
        return None

    def look(self) -> float:
        """See `Others`: the mean over the driver's samples of each process but ours, added up."""
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, self._seen)
        except self._nvml.NVMLError:
            return 0.0  # No samples: nobody has computed anything.
        used: dict[int, list[int]] = {}
        for sample in samples:
            self._seen = max(self._seen, int(sample.timeStamp))
            if sample.pid != os.getpid():
                used.setdefault(sample.pid, []).append(int(sample.smUtil))
        return min(1.0, sum(sum(each) / len(each) for each in used.values()) / 100)


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
