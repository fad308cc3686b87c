"""What a peer has done since it started, whichever blocks it served meanwhile: plain numbers.

They are kept while it computes, so keeping them costs next to nothing; `metrics.py` tells them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from swarm.energy.metering import Work
from swarm.metrics.buckets import COUNTS, STEP_SECONDS, Buckets
from swarm.wire.messages import Code


class Phase(StrEnum):
    """What a step was for, by its length: a short rest of a prompt is taken like new tokens."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass
class PhaseTally:
    """Steps of one phase: how many, of how many positions, and how long each waited (seconds)."""

    num_steps: int = 0
    num_positions: int = 0
    queue: Buckets = field(default_factory=lambda: Buckets(STEP_SECONDS))

    def ran(self, num_positions: int, queue: float) -> None:
        """One more, or one part of a long one."""
        self.num_steps += 1
        self.num_positions += num_positions
        self.queue.note(queue)


@dataclass
class Tally:
    """All of it. `batch_steps` counts batches by the steps in them, `compute` by their seconds.

    Sessions that could not go on are in `failures`, those that were not let in in `refusals`. Of
    sessions, `num_held` were stopped because their route changed, `num_handed_over` had gone on
    elsewhere when this peer gave up its blocks, and `num_left_behind` had not. Histories were sent
    again to take somebody's place after a death (`num_replayed` positions) or before a departure
    (`num_copied`). `num_recalled` positions were known from earlier sessions.
    """

    phases: dict[Phase, PhaseTally] = field(
        default_factory=lambda: {phase: PhaseTally() for phase in Phase}
    )
    compute: Buckets = field(default_factory=lambda: Buckets(STEP_SECONDS))
    batch_steps: Buckets = field(default_factory=lambda: Buckets(COUNTS))
    num_opened: int = 0
    num_recalled: int = 0
    num_held: int = 0
    num_replayed: int = 0
    num_copied: int = 0
    num_handed_over: int = 0
    num_left_behind: int = 0
    refusals: Counter[Code] = field(default_factory=Counter)
    failures: Counter[Code] = field(default_factory=Counter)
    num_loads: int = 0
    load_seconds: float = 0.0
    num_moves: int = 0
    num_pauses: int = 0

    @property
    def work(self) -> Work:
        """What was computed, of all phases."""
        num_positions = sum(phase.num_positions for phase in self.phases.values())
        return Work(num_positions, self.compute.total)
