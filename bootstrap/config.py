"""What a bootstrap can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from swarm.errors import ConfigError
from swarm.membership.certificate import Role
from swarm.transport.relay_config import RelayConfig
from swarm.web.config import WebConfig

if TYPE_CHECKING:
    from swarm.invite import Invite

_MAX_NAME = 64


DAY = 86400.0
"""Seconds."""

MAX_USES = 1000
MAX_VALIDITY = 366 * DAY
"""Seconds after which an invite has expired at the latest: it is a secret that people pass on."""


@dataclass(frozen=True)
class Terms:
    """On what terms an authority lets people in; times in seconds.

    A member's certificate lasts for `lifetime`: for so long it goes on while no bootstrap answers.
    An invite for which nothing else is said, as the first one, is good for `validity`; the first
    one for `uses` machines.
    """

    lifetime: float = DAY
    validity: float = 7 * DAY
    uses: int = 10

    def __post_init__(self) -> None:
        if not 600 <= self.lifetime <= 366 * DAY:
            raise ConfigError("a certificate's lifetime is between ten minutes and a year")
        if not 0 < self.validity <= MAX_VALIDITY:
            raise ConfigError("an invite expires, within a year")
        if not 1 <= self.uses <= MAX_USES:
            raise ConfigError(f"an invite has between 1 and {MAX_USES} uses")


PAGE_PORT = 7780


@dataclass(frozen=True, kw_only=True)
class PageConfig(WebConfig):
    """Where a bootstrap shows its page, and how much of it.

    Where the port is taken, another one does as well, unless just this one was `asked` for. At
    most `most_watching` pages are told what happens, all others may only look. A body may have
    `most_body` bytes.
    """

    port: int = PAGE_PORT
    asked: bool = False
    most_connections: int = 128
    patience: float = 30.0
    most_watching: int = 32
    most_body: int = 4096


@dataclass(frozen=True)
class BootstrapConfig:
    """How to run a group's entry point.

    `folder` keeps the group's key, the bootstrap's identity and the ledger of its members; a folder
    is one group. With `join`, an invite of role authority, it becomes one more bootstrap of that
    group instead of the first one of a new group. It listens at `host` and `port`; with 0 it
    takes a free port once and keeps to it, because invites name it. `announce` are addresses that
    reach it from outside. With `map_port` the router is asked to forward the port. `name` is what
    people call the group; None leaves it as it is. `relay` limits what members who cannot reach
    each other directly may send through here. `terms` are those of membership.
    """

    folder: Path
    host: str = "0.0.0.0"
    port: int = 0
    announce: tuple[str, ...] = ()
    map_port: bool = True
    name: str | None = None
    relay: RelayConfig = field(default_factory=RelayConfig)
    terms: Terms = field(default_factory=Terms)
    join: Invite | None = None
    page: PageConfig | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port {self.port} is not between 0 and 65535")
        if self.join is not None and self.join.role is not Role.AUTHORITY:
            raise ConfigError(
                "a bootstrap can only join a group with an invite of role authority"
                f" (this one is for a {self.join.role})"
            )
        if self.join is not None and self.name is not None:
            raise ConfigError("a group is named by the bootstrap that has founded it")
        if self.name is not None and len(self.name) > _MAX_NAME:
            raise ConfigError(f"a group's name has at most {_MAX_NAME} characters")
