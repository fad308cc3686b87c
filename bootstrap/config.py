"""What a bootstrap can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from swarm.errors import ConfigError
from swarm.transport.relay import RelayConfig

_MAX_NAME = 64


@dataclass(frozen=True)
class BootstrapConfig:
    """How to run a group's entry point.

    `folder` keeps the group's secret, the bootstrap's identity and the members it has met; a folder
    is one group, and what is lost with it is the group. It listens at `host` and `port`; with 0 it
    takes a free port once and keeps to it, because invites name it. `announce` are addresses that
    reach it from outside. With `map_port` the router is asked to forward the port. `name` is what
    people call the group; None leaves it as it is. `relay` limits what members who cannot reach
    each other directly may send through here.
    """

    folder: Path
    host: str = "0.0.0.0"
    port: int = 0
    announce: tuple[str, ...] = ()
    map_port: bool = True
    name: str | None = None
    relay: RelayConfig = field(default_factory=RelayConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if self.name is not None and len(self.name) > _MAX_NAME:
            raise ConfigError(f"a group's name has at most {_MAX_NAME} characters")
