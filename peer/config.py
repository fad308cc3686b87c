"""How a peer contributes its machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from swarm.directory import LIFETIME, REFRESH
from swarm.errors import ConfigError
from swarm.forms import Form, form


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

    def __post_init__(self) -> None:
        if self.blocks is not None and not 0 <= self.blocks[0] < self.blocks[1]:
            raise ConfigError(f"blocks {self.blocks[0]}:{self.blocks[1]} are no span")
        if min(self.threads, self.memory, self.kv_memory) < 0:
            raise ConfigError("threads and memory sizes cannot be negative")
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
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
