"""What a benchmark measures, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """Lengths in positions.

    Each session holds a prompt of `prompt_len` when it begins to decode `num_tokens`. Everything is
    done `num_rounds` times after one round that warms up. `sessions` are the numbers of sessions
    that decode side by side.
    """

    prompt_len: int = 512
    num_tokens: int = 48
    num_rounds: int = 5
    sessions: tuple[int, ...] = (1, 2, 4, 8, 16)

    def __post_init__(self) -> None:
        if min(self.prompt_len, self.num_tokens, self.num_rounds) < 1:
            raise ConfigError("prompt, tokens and rounds must be at least 1")
        if not self.sessions or min(self.sessions) < 1:
            raise ConfigError("sessions are numbers from 1 on")

    @property
    def most_sessions(self) -> int:
        """Sessions that are open at the same time."""
        return max(self.sessions)
