"""How a peer contributes its machine."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from swarm.directory import LIFETIME, REFRESH
from swarm.errors import ConfigError
from swarm.forms import Form, form

from .busyness import BusyConfig
from .cgroups import cpu_quota
from .hours import Hours


@dataclass(frozen=True)
class PeerConfig:
    """What a peer may use, and how it behaves.

    `blocks` fixes the span; without it the peer takes what the swarm needs most, as many blocks as
    `memory` bytes hold (0: what is free), and moves when a gap opens. `kv_memory` bytes are for KV
    pages of `page_len` positions (0: a quarter of what the weights leave). `threads` 0 means all
    cores that this process may use. `quantize` names the `Form` of the weights. A peer that leaves
    gives its sessions `leave_patience` to be handed over. Batches that take less than `brief` are
    computed without the compute thread; for so long the peer answers nobody. Intervals, patience
    and `brief` are in seconds. With `audit`, that part of its time a peer that runs no sessions
    compares what others make of its blocks with what it makes of them itself.

    With `max_memory` bytes, weights, KV pages, what is needed for working and the program itself
    stay below that together. The peer serves at its `hours` only (see `hours`; none: always), and
    with `pause_when_busy` only while nobody else uses the machine, as `busy` says. For the rest of
    the time it pauses, which it looks for every `pause_interval`. In `folder` it remembers what it
    served, to begin with the same again.
    """

    name: str = ""
    blocks: tuple[int, int] | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantize: str = Form.NONE
    threads: int = 0
    memory: int = 0
    kv_memory: int = 0
    page_len: int = 32
    announce_interval: float = REFRESH
    announce_lifetime: float = LIFETIME
    move_interval: float = 10.0
    leave_patience: float = 30.0
    brief: float = 0.02
    audit: float = 0.0
    max_memory: int = 0
    hours: tuple[str, ...] = ()
    pause_when_busy: bool = False
    busy: BusyConfig = field(default_factory=BusyConfig)
    pause_interval: float = 1.0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.blocks is not None and not 0 <= self.blocks[0] < self.blocks[1]:
            raise ConfigError(f"blocks {self.blocks[0]}:{self.blocks[1]} are no span")
        if min(self.threads, self.memory, self.kv_memory, self.max_memory) < 0:
            raise ConfigError("threads and memory sizes cannot be negative")
        if self.max_memory and self.memory + self.kv_memory >= self.max_memory:
            raise ConfigError(
                "memory for weights and for sessions must stay below max_memory together: the"
                " program itself and its work need some, too"
            )
        Hours(self.hours)
        if self.pause_interval <= 0:
            raise ConfigError("pause_interval must be positive")
        form(self.quantize)
        if min(self.leave_patience, self.brief) < 0:
            raise ConfigError("leave_patience and brief cannot be negative")
        if not 0 <= self.audit <= 1:
            raise ConfigError("audit is a part of 1, such as 0.01")
        if self.page_len < 1:
            raise ConfigError("a page holds at least one position")
        if not 0 < self.announce_interval < self.announce_lifetime:
            raise ConfigError("an announcement must live longer than its interval")

    @property
    def num_threads(self) -> int:
        """Compute threads: as asked, or as many as there are cores for this process."""
        if self.threads:
            return self.threads
        if not hasattr(os, "sched_getaffinity"):
            return os.cpu_count() or 1
        cores, quota = len(os.sched_getaffinity(0)), cpu_quota()
        # More threads than a container may keep busy are all stopped for the rest of each period,
        # in the middle of a step.
        return cores if quota is None else min(cores, math.ceil(quota))
