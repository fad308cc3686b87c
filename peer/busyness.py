"""Whether somebody else uses this machine: policy alone, over what was measured.

A peer that gives way at each short burst would never serve, and one that comes back at each short
rest would be in the way of whoever plays or compiles: what is looked at is a mean, it takes more to
go than to come back, and coming back takes a while.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from swarm.errors import ConfigError


@dataclass(frozen=True)
class BusyConfig:
    """When others count as using the machine.

    That begins where, in the mean of the last `span` seconds, they use `above` of all cores or of
    a GPU (1 is all of it), and ends where they have used less than `below` for `calm` seconds.
    """

    above: float = 0.3
    below: float = 0.15
    span: float = 10.0
    calm: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.below <= self.above <= 1 or min(self.span, self.calm) <= 0:
            raise ConfigError("busy: 0 < below <= above <= 1, with positive times")


class Busyness:
    """What others use, looked at from time to time."""

    def __init__(self, config: BusyConfig | None = None) -> None:
        self._config = config or BusyConfig()
        self._noted_at: float | None = None
        self._calm_since: float | None = None
        self.level = 0.0
        """The mean share that others use."""
        self.busy = False
        """Whether they count as using the machine."""

    def note(self, share: float, now: float) -> bool:
        """Others have used this share (0 to 1) since the last look; returns `busy`."""
        config = self._config
        passed = 0.0 if self._noted_at is None else max(0.0, now - self._noted_at)
        self._noted_at = now
        self.level += (share - self.level) * (1 - math.exp(-passed / config.span))
        if self.level >= config.below:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        if self.level >= config.above:
            self.busy = True
        elif self._calm_since is not None and now - self._calm_since >= config.calm:
            self.busy = False
        return self.busy
