"""The times of single repetitions, and the medians over them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .result import Aggregate, Reference, StepResult


@dataclass(frozen=True)
class StepTime:
    """One decode step in seconds: all of it, the client's part, and what each hop did."""

    whole: float
    client: float
    queue: tuple[float, ...]
    compute: tuple[float, ...]

    @property
    def wire(self) -> float:
        """What remains for the trips."""
        return self.whole - self.client - sum(self.queue) - sum(self.compute)


@dataclass
class Samples:
    """Seconds of each repetition; `rates` are tokens per second by number of sessions."""

    first_token: list[float] = field(default_factory=list)
    prefill: list[float] = field(default_factory=list)
    steps: list[StepTime] = field(default_factory=list)
    rates: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    plain_decode: list[float] = field(default_factory=list)
    plain_prefill: list[float] = field(default_factory=list)

    @property
    def decode_rate(self) -> float:
        """Tokens per second of one stream."""
        return 1 / statistics.median(step.whole for step in self.steps)

    def aggregates(self) -> list[Aggregate]:
        """The median of each number of sessions."""
        return [Aggregate(number, statistics.median(each)) for number, each in self.rates.items()]

    def reference(self, prompt_len: int) -> Reference:
        """Plain transformers' medians, and the swarm's over them."""
        step, prompt = statistics.median(self.plain_decode), statistics.median(self.plain_prefill)
        return Reference(
            decode_tokens_per_second=1 / step,
            prefill_tokens_per_second=prompt_len / prompt,
            decode_ratio=self.decode_rate * step,
            prefill_ratio=prompt / statistics.median(self.prefill),
            sessions_ratio={
                str(each.sessions): each.tokens_per_second * step for each in self.aggregates()
            },
        )

    def hop_ms(self) -> list[tuple[float, float]]:
        """Each hop's median (compute, queue) of a decode step."""
        compute = zip(*(step.compute for step in self._on_one_route()), strict=True)
        queue = zip(*(step.queue for step in self._on_one_route()), strict=True)
        return [(_ms(each), _ms(waits)) for each, waits in zip(compute, queue, strict=True)]

    def step(self) -> StepResult:
        """Medians over all decode steps of one session."""
        steps = self._on_one_route()
        return StepResult(
            whole_ms=_ms(step.whole for step in steps),
            compute_ms=_ms(sum(step.compute) for step in steps),
            queue_ms=_ms(sum(step.queue) for step in steps),
            wire_ms=_ms(step.wire for step in steps),
            client_ms=_ms(step.client for step in steps),
            overhead_per_hop_ms=_ms(
                (step.wire + sum(step.queue)) / len(step.compute) for step in steps
            ),
        )

    def _on_one_route(self) -> Sequence[StepTime]:
        """The steps over as many hops as the last one: a swarm of others may change meanwhile."""
        num_hops = len(self.steps[-1].compute)
        return [step for step in self.steps if len(step.compute) == num_hops]


def _ms(seconds: Iterable[float]) -> float:
    return statistics.median(seconds) * 1e3
