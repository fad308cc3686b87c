"""What a gateway may be told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from swarm.errors import ConfigError
from swarm.web.config import WebConfig

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@?#*]+")
"""As browsers send it (RFC 6454, 6.2). No wildcard: any page could use what the key's owner has."""


@dataclass(frozen=True, kw_only=True)
class GatewayConfig(WebConfig):
    """Where a gateway listens, and how much it takes on.

    At most `most_running` answers are made at a time (a request for several counts as so many),
    `most_waiting` requests wait for their turn, of them `most_waiting_each` from one caller. A body
    may have `most_body` bytes, and an answer `most_choices`. `origins` are the web pages that may
    ask (CORS), beside our own, which is shown at `/` where there is a `page`. Times are in seconds:
    who stands still for `patience` while it sends a request or reads an answer is hung up on; an
    answer waits for blocks that nobody serves for `wait`; when the gateway is stopped, what runs
    may go on for `drain`.
    """

    port: int = 8000
    origins: tuple[str, ...] = ()
    page: bool = True
    most_body: int = 8 << 20
    most_running: int = 32
    most_waiting: int = 128
    most_waiting_each: int = 64
    most_choices: int = 8
    wait: float = 20.0
    drain: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.most_body, self.most_running, self.most_choices) < 1:
            raise ConfigError("a gateway that takes nothing on: limits must be at least 1")
        if min(self.most_waiting, self.most_waiting_each) < 0 or min(self.drain, self.wait) < 0:
            raise ConfigError("limits and times cannot be negative")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"{origin!r} is no origin of web pages; write for example https://chat.example"
                )
