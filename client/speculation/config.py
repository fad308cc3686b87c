"""Whether a client guesses ahead, and how far."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.errors import ConfigError

MOST = 63
"""Guesses in one window, at most: with the token before them, what a session still takes for a
short step."""


@dataclass(frozen=True)
class SpeculationConfig:
    """How many guesses travel along with a token, at most.

    `window` None lets each reply find out what pays, down to none; 0 never guesses; any other
    number always sends so many, if there are so many.
    """

    window: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not 0 <= self.window <= MOST:
            raise ConfigError(f"a window of guesses has 0 to {MOST}")

    @property
    def wanted(self) -> bool:
        """Whether there is anything to guess."""
        return self.window != 0

    @classmethod
    def parse(cls, text: str) -> SpeculationConfig:
        """Reads `auto`, `off` or a number; raises `ConfigError` on anything else."""
        if text in ("auto", "off"):
            return cls(None if text == "auto" else 0)
        if not text.isdecimal():
            raise ConfigError(f"speculate {text}: use auto, off or a number of guesses")
        return cls(int(text))
