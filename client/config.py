"""How patient a client is, and how it cuts its prompts."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import ConfigError


@dataclass(frozen=True)
class SessionConfig:
    """Times in seconds, lengths in positions.

    A prompt travels in steps of `chunk_len`. Opening a session may wait `open_patience` for room on
    a full peer. If blocks are served by nobody, the session waits `route_patience` for somebody to
    join. When the route changes, a surviving hop must answer within `hold_patience` plus four times
    what a chunk takes it, as it may be computing for others.

    That a peer is gone shows by its link. A step that brings no output although all links live is
    taken as lost after `step_patience`; once enough steps have been timed, after what is out of the
    ordinary for them, but never before `least_step_patience`. It is sent again with twice the
    patience, `max_silences` times. One recovery tries at most `max_attempts` routes.

    Peers keep what a finished session has computed, and a later one that begins with the same text
    goes on from there, in units of `unit_len` (0: nothing is kept).
    """

    chunk_len: int = 128
    open_patience: float = 30.0
    route_patience: float = 40.0
    hold_patience: float = 3.0
    step_patience: float = 8.0
    least_step_patience: float = 1.0
    max_silences: int = 3
    max_attempts: int = 16
    unit_len: int = 32

    def __post_init__(self) -> None:
        if self.chunk_len < 1 or self.max_attempts < 1:
            raise ConfigError("chunk_len and max_attempts must be at least 1")
        if min(self.open_patience, self.route_patience, self.max_silences) < 0:
            raise ConfigError("patience and max_silences cannot be negative")
        if self.unit_len < 0:
            raise ConfigError("unit_len cannot be negative")
        if min(self.hold_patience, self.step_patience, self.least_step_patience) <= 0:
            raise ConfigError("what waits for a hop or a step needs a positive patience")
