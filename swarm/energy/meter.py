"""The seam: something that tells how much energy has been spent, and on whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Source(StrEnum):
    """How it is known what was spent; in announcements, pages and metrics."""

    NVML = "nvml"
    """The card's own counter, through NVIDIA's driver."""
    RAPL = "rapl"
    """The processor's own counters, which AMD's have, too."""
    HWMON = "hwmon"
    """The card's sensor, through Linux (AMD, Intel)."""
    APPLE = "apple"
    """Apple's counters of its own chips."""
    ESTIMATE = "estimate"
    """Nothing tells: computing time, times what such a machine is thought to draw."""


@dataclass(frozen=True)
class Usage:
    """What went on for some `seconds`, as far as this process is told.

    The process has used `cpu_seconds` of `cores` cores, and everybody together `busy_seconds`. For
    `computing_seconds` it had its device compute.
    """

    seconds: float
    cpu_seconds: float
    busy_seconds: float
    computing_seconds: float = 0.0
    cores: int = 1


@dataclass(frozen=True)
class Spent:
    """Joules that were drawn from the `machine` or card, and those of them that count as `ours`."""

    machine: float
    ours: float


class Meter(Protocol):
    """Tells what was spent since it was last asked. May wait for a driver: not for event loops."""

    @property
    def source(self) -> Source:
        """How it knows."""

    def spent(self, usage: Usage) -> Spent | None:
        """Since the last time; `usage` is of the same time. None once it cannot tell any more."""
