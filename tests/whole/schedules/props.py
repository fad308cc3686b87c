"""What every play needs: the model, and how patient and how roomy everybody is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from schedule import Host, Schedule, Talk
from talking import Undisturbed

from swarm.client.config import SessionConfig
from swarm.client.head import Head
from swarm.transport.link import LinkConfig

PAGE_LEN = 8
LINK_CONFIG = LinkConfig(0.25, 1.0, 0.1, 0.4, handshake=2.0)


@dataclass(frozen=True)
class Props:
    """What all plays share, as it takes long to make."""

    open_world: Callable[[AsyncExitStack], Any]
    head: Head
    undisturbed: Undisturbed
    page_bytes: int
    """Of one block."""


class Errors(logging.Handler):
    """Collects what the swarm logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def num_pages(schedule: Schedule, host: Host) -> int:
    """KV memory of a host: room for some of the largest sessions, or for plenty."""
    if not host.room:
        return 256
    return max(4, int(host.room * max(map(_pages_of, schedule.talks))))


def _pages_of(talk: Talk) -> int:
    length = talk.length
    for move in talk.moves:
        length += getattr(move, "count", 0) + getattr(move, "right", 0) + getattr(move, "wrong", 0)
    return talk.num_rows * (-(-(length + 8) // PAGE_LEN))


def session_config(schedule: Schedule) -> SessionConfig:
    """Patient enough for every rescue, quick where no rescue is meant to come."""
    return SessionConfig(
        chunk_len=schedule.chunk_len,
        route_patience=3.0 if schedule.rescue is None else 40.0,
        open_patience=120.0,
        hold_patience=1.0,
        step_patience=2.0,
        unit_len=4,
    )
