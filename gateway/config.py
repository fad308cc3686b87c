"""What a gateway may be told."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import ConfigError


@dataclass(frozen=True)
class GatewayConfig:
    """Where a gateway listens, and how much it takes on.

    At most `most_running` requests run at a time, `most_waiting` wait for their turn, of them
    `most_waiting_each` from one caller. A body may have `most_body` bytes, and an answer
    `most_choices`. `origins` are the web pages that may ask (CORS). When the gateway is stopped,
    what runs may go on for `drain` seconds.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    private_key: Path | None = None
    origins: tuple[str, ...] = ()
    most_body: int = 8 << 20
    most_running: int = 32
    most_waiting: int = 128
    most_waiting_each: int = 64
    most_choices: int = 8
    drain: float = 10.0

    def __post_init__(self) -> None:
        if min(self.most_body, self.most_running, self.most_choices) < 1:
            raise ConfigError("a gateway that takes nothing on: limits must be at least 1")
        if min(self.most_waiting, self.most_waiting_each) < 0 or self.drain < 0:
            raise ConfigError("limits and times cannot be negative")
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"port {self.port}: must be below 65536")
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError("TLS needs both a certificate and its private key")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
