"""One peer as others see it: its announcement, and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from swarm.directory import Announcement

ESTIMATE = "estimate"
"""How a peer knows its `watts` where its machine does not tell."""


@dataclass(frozen=True)
class Holder:
    """A peer that announces blocks of a model; `num_reporters` members say that it was wrong."""

    entry: Announcement
    num_reporters: int = 0

    def without_addresses(self) -> Holder:
        """The same peer, without where it is."""
        return replace(self, entry=msgspec.structs.replace(self.entry, addresses=()))

    def as_json(self) -> dict[str, Any]:
        """For programs; what is 0 of times, sizes and energy is not known."""
        entry = self.entry
        return {
            "peer": entry.peer,
            "name": entry.name,
            "start": entry.start,
            "end": entry.end,
            "state": str(entry.state),
            "decode_seconds": entry.decode_seconds,
            "prefill_seconds": entry.prefill_seconds,
            "queue_seconds": entry.queue_seconds,
            "free_positions": entry.free_positions,
            "total_positions": entry.total_positions,
            "num_sessions": entry.num_sessions,
            "num_positions": entry.num_positions,
            "used_bytes": entry.used_bytes,
            "memory_bytes": entry.memory_bytes,
            "upload_rate": entry.upload_rate,
            "dtype": entry.dtype,
            "quantize": entry.quantize,
            "device": entry.device,
            "version": entry.version,
            "reach": str(entry.reach),
            "addresses": list(entry.addresses),
            "watts": entry.watts,
            "joules": entry.joules,
            "energy": entry.energy,
            "energy_estimated": entry.energy == ESTIMATE,
            "resumes": entry.resumes,
            "announced": entry.time,
            "reporters": self.num_reporters,
        }
