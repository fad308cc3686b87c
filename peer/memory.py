"""How a peer divides the memory that it may take: policy alone, in bytes.

A peer takes memory for weights, for KV pages, and for working: what steps compute, what has arrived
and is not computed yet, what is kept to be sent again. Without a limit of its owner's it is as much
as is free, with room to spare.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from swarm.amounts import megabytes
from swarm.errors import ConfigError
from swarm.transport.link import LinkConfig

from .capacity import KV_SHARE, kv_budget, weights_budget
from .config import PeerConfig
from .limits import HandlerConfig

_WORKING_SHARE = 0.2
_LEAST_WORKING = 96 << 20
"""Of a limit, what is left for working. Histories, steps that wait, and bytes that wait to be sent
may take parts of it together that leave a third to the steps that are computed."""
_HISTORIES, _INBOX, _BACKLOGS = 0.3, 0.2, 0.15


@dataclass(frozen=True)
class Memory:
    """What there is: `free` bytes on the device, `taken` by this process on it already."""

    free: int
    taken: int = 0


class Budget:
    """The memory that a config allows a peer."""

    def __init__(self, config: PeerConfig) -> None:
        self._config = config
        self.limit = config.max_memory
        """Bytes that the process may take in all; 0: what is free."""
        self.working = max(_LEAST_WORKING, int(self.limit * _WORKING_SHARE)) if self.limit else 0
        """Bytes of the limit that neither weights nor KV pages may take."""

    def weights(self, memory: Memory) -> int:
        """What weights may take, before any is loaded."""
        config = self._config
        if not self.limit:
            return config.memory or weights_budget(memory.free)
        room = min(self.limit - memory.taken, memory.free) - self.working
        # Without pages there is nothing to serve.
        most = room - config.kv_memory if config.kv_memory else int(room * (1 - KV_SHARE))
        return max(0, min(config.memory or most, most))

    def fixed(self, memory: Memory) -> int:
        """What weights may take where the owner says which blocks: all that there is."""
        return self.weights(memory) if self.limit else memory.free

    def kv(self, memory: Memory) -> int:
        """What KV pages may take, once the weights are there; may be less than one page."""
        config = self._config
        if not self.limit:
            return config.kv_memory or kv_budget(memory.free)
        room = min(self.limit - memory.taken - self.working, memory.free)
        if config.kv_memory > room:
            raise ConfigError(
                f"{megabytes(config.kv_memory)} for sessions do not fit: of"
                f" {megabytes(self.limit)} in all {megabytes(max(0, room))} are left beside the"
                " program, its weights, and what it needs for working"
            )
        return config.kv_memory or max(0, room)

    def handler(self, limits: HandlerConfig | None) -> HandlerConfig:
        """What sessions may take beside KV pages, within the limit."""
        limits = limits or HandlerConfig()
        if not self.limit:
            return limits
        histories = min(limits.history_bytes, int(self.working * _HISTORIES))
        inbox = min(limits.member.all_inbox_bytes, int(self.working * _INBOX))
        member = replace(
            limits.member,
            all_inbox_bytes=inbox,
            inbox_bytes=min(limits.member.inbox_bytes, inbox),
        )
        session = min(limits.session_history_bytes, histories)
        return replace(
            limits, history_bytes=histories, session_history_bytes=session, member=member
        )

    def links(self, config: LinkConfig | None) -> LinkConfig:
        """What may wait to be sent, within the limit."""
        config = config or LinkConfig()
        if not self.limit:
            return config
        most = min(config.backlogs, int(self.working * _BACKLOGS))
        return replace(config, backlogs=most, backlog=min(config.backlog, most))
