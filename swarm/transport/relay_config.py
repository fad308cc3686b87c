"""What a relay gives away: apart from the relay, as options are made of it before any starts."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import ConfigError


@dataclass(frozen=True)
class RelayConfig:
    """What a relay gives away; with `serve` unset, nothing.

    It lets itself be found by `max_reservations` members, and passes `max_circuits` streams at
    once, `member_circuits` of them from or to any one member. What a member sends may take `rate`
    bytes per second (0: no limit), after `burst` bytes without a pause; it is slowed down, not cut
    off. A circuit on which nothing has passed for `idle` seconds ends; finding the other end may
    take `patience` seconds.
    """

    serve: bool = True
    max_reservations: int = 128
    max_circuits: int = 256
    member_circuits: int = 32
    rate: float = 16e6
    burst: int = 4 * 1024 * 1024
    idle: float = 30.0
    patience: float = 5.0

    def __post_init__(self) -> None:
        if min(self.max_reservations, self.max_circuits, self.member_circuits) < 1:
            raise ConfigError("a relay serves at least one; to have none, do not serve")
        if self.rate < 0 or self.burst < 1 or self.idle <= 0 or self.patience <= 0:
            raise ConfigError("a relay's rate cannot be negative; burst and times must be positive")
