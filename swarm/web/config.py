"""Where a program serves HTTP, and how much of it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WebConfig:
    """Where to listen: with a certificate and its private key (PEM), over TLS.

    Of more than `most_connections` the one that has been idle the longest ends. Who stands still
    for `patience` seconds while it sends a request or reads an answer is hung up on.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    private_key: Path | None = None
    most_connections: int = 512
    patience: float = 60.0

    def __post_init__(self) -> None:
        if self.most_connections < 1 or self.patience <= 0:
            raise ConfigError("a server that answers nobody: limits must be at least 1")
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"port {self.port}: must be below 65536")
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError("TLS needs both a certificate and its private key")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine as only it can reach itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
