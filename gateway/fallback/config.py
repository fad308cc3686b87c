"""Whom to ask where the swarm cannot answer, and how patiently."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from swarm.errors import ConfigError

from ..config import GatewayConfig


@dataclass(frozen=True)
class FallbackConfig:
    """An endpoint that speaks OpenAI's API at `url`, such as `https://api.example.com/v1`.

    `model` is its name for whatever is asked; by default it is asked for the same. It also answers
    while the swarm's queue is full if `when_busy`. It must be connected to within `connect` seconds
    and never be silent for longer than `patience`. It answers at most `most_running` requests at a
    time, with `most_choices` each. An answer has at most `most_bytes`, a part of it `most_part`.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    model: str | None = None
    when_busy: bool = False
    connect: float = 10.0
    patience: float = 120.0
    most_running: int = GatewayConfig.most_running
    most_choices: int = GatewayConfig.most_choices
    most_bytes: int = 256 << 20
    most_part: int = 4 << 20

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
        except ValueError as error:
            raise ConfigError(f"the fallback's address {self.url!r} is none: {error}") from error
        if not known:
            raise ConfigError(f"the fallback's address {self.url!r} must begin with http(s)://HOST")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigError(
                "the fallback's address takes no name, query or fragment; its key comes from the"
                " environment"
            )
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError("the fallback's key holds characters that no header may hold")
        limits = (self.most_running, self.most_choices, self.most_bytes, self.most_part)
        if min(limits) < 1 or min(self.connect, self.patience) <= 0:
            raise ConfigError("a fallback's limits and times must be positive")

    def endpoint(self, path: str) -> str:
        """The whole address of an endpoint such as `chat/completions`."""
        return f"{self.url.rstrip('/')}/{path}"

    @property
    def is_open_to_readers(self) -> bool:
        """Whether what is asked travels unencrypted over a network."""
        parts = urlsplit(self.url)
        if parts.scheme == "https" or parts.hostname == "localhost":
            return False
        try:
            return not ipaddress.ip_address(parts.hostname or "").is_loopback
        except ValueError:
            return True
