"""How much a client checks."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import ConfigError

DEFAULT_RATE = 0.01


@dataclass(frozen=True)
class AuditConfig:
    """`rate` is the part of all computed positions that others compute again; 0 checks nothing.

    Half of it goes to how many sessions begin, while they run, and half to whole sessions at
    their end, of which at most `max_positions` are checked. Peers that others report are checked at
    `watch_rate` for `watch_seconds`. One that is caught is avoided for `avoid_seconds`. `patience`
    is how many seconds a check at a session's end may take, for which its hops stay open.
    """

    rate: float = DEFAULT_RATE
    max_positions: int = 2048
    watch_rate: float = 0.25
    watch_seconds: float = 600.0
    avoid_seconds: float = 3600.0
    patience: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1 or not 0 <= self.watch_rate <= 1:
            raise ConfigError("an audit's rate is a part of 1, such as 0.01")
        if self.max_positions < 1:
            raise ConfigError("an audit checks at least one position")
        if min(self.watch_seconds, self.avoid_seconds, self.patience) <= 0:
            raise ConfigError("an audit's times must be positive")
