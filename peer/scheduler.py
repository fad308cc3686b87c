"""Which steps of which sessions run next: policy only, no torch, no clock.

One batch holds at most one step of a session, decode steps before long prefills, in turn between
sessions. A prefill alone takes large batches; while others decode it gets one chunk a batch, which
is kept free for it. So neither waits for more than one batch of the other. What a chunk may be
follows from the time that it takes.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from swarm.errors import ConfigError

T = TypeVar("T")

_CHUNK = 0.02
_PREFILL = 0.25
"""Seconds: see `SchedulerConfig.timed`."""


@dataclass(frozen=True)
class SchedulerConfig:
    """Sizes of a batch, in positions.

    A step of at most `decode_len` positions counts as decode. A batch holds up to `batch_len`
    positions; of prefill at most `prefill_len`, and while others decode at most `chunk_len`.
    """

    decode_len: int = 8
    chunk_len: int = 128
    batch_len: int = 512
    prefill_len: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.decode_len <= self.chunk_len <= self.batch_len - self.decode_len:
            raise ConfigError(
                "a scheduler needs 0 < decode_len <= chunk_len <= batch_len - decode_len"
            )
        if self.prefill_len < self.chunk_len:
            raise ConfigError("a scheduler needs chunk_len <= prefill_len")

    @classmethod
    def timed(cls, decode_seconds: float, prefill_seconds: float) -> SchedulerConfig:
        """Sizes for a span that takes so long for a decode step, and per position of a prompt.

        A chunk takes twice as long as a decode step, so that prompts never make others' tokens
        more than three times as slow, and the prompts still get most of the time; where decoding
        is quicker than anybody notices, a chunk may take 20 ms. A newcomer's first step waits for
        a quarter of a second at most.
        """
        if prefill_seconds <= 0:
            return cls()
        chunk_len = int(max(_CHUNK, 2 * decode_seconds) / prefill_seconds)
        chunk_len = min(max(cls.decode_len, chunk_len), cls.batch_len // 2)
        return cls(chunk_len=chunk_len, prefill_len=max(chunk_len, int(_PREFILL / prefill_seconds)))


@dataclass(frozen=True)
class Slice(Generic[T]):
    """Positions `[start, start + count)` of one step, counted within the step.

    `last` tells whether the step is finished with it.
    """

    session: str
    work: T
    start: int
    count: int
    last: bool


@dataclass(frozen=True)
class _Work(Generic[T]):
    work: T
    kind: Hashable
    start: int
    total: int

    @property
    def left(self) -> int:
        return self.total - self.start


class Scheduler(Generic[T]):
    """Ready steps of all sessions. `kind` separates steps that cannot share a batch."""

    def __init__(self, config: SchedulerConfig | None = None) -> None:
        self._config = config or SchedulerConfig()
        # The order is the turn order: who was served goes to the end.
        self._queues: OrderedDict[str, deque[_Work[T]]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def is_decode(self, num_positions: int) -> bool:
        """Whether a step of so many positions counts as decode."""
        return num_positions <= self._config.decode_len

    def add(self, session: str, work: T, num_positions: int, kind: Hashable = None) -> None:
        """Queues a step behind the session's earlier ones."""
        self._queues.setdefault(session, deque()).append(_Work(work, kind, 0, num_positions))

    def drop(self, session: str) -> list[T]:
        """Forgets a session's steps and returns them."""
        return [entry.work for entry in self._queues.pop(session, deque())]

    def next_batch(
        self,
        max_sessions: int | None = None,
        *,
        max_decode: int | None = None,
        decoding: Collection[str] = (),
    ) -> list[Slice[T]]:
        """Takes the next batch; empty when nothing is ready.

        It holds at most `max_decode` decode steps. While other sessions are `decoding`, prefills
        come in chunks even though none of their steps is ready at this moment.
        """
        if not self._queues:
            return []
        kind = next(iter(self._queues.values()))[0].kind
        heads = {name: queue[0] for name, queue in self._queues.items() if queue[0].kind == kind}
        config = self._config
        decode = {name: head for name, head in heads.items() if head.left <= config.decode_len}
        prefill = {name: head for name, head in heads.items() if name not in decode}
        if max_sessions is not None:
            return self._take_first(heads, max_sessions)
        batch: list[Slice[T]] = []
        # The chunk is set aside first, so that no number of decode steps can crowd it out.
        room = config.batch_len - (config.chunk_len if prefill else 0)
        for name, head in list(decode.items())[: _even(len(decode), max_decode)]:
            if head.left > room:
                break
            room -= head.left
            batch.append(self._take(name, head.left))
        others = len(decoding) > sum(name in decoding for name in prefill)
        prefill_len = min(config.prefill_len, config.batch_len)
        room = config.chunk_len if batch or others else prefill_len
        for name, head in prefill.items():
            if room <= 0:
                break
            count = min(head.left, room)
            room -= count
            batch.append(self._take(name, count))
        return batch

    def _take_first(self, heads: dict[str, _Work[T]], max_sessions: int) -> list[Slice[T]]:
        """A batch for spans that cannot mix many sessions."""
        chosen = list(heads.items())[:max_sessions]
        return [self._take(name, min(head.left, self._config.chunk_len)) for name, head in chosen]

    def _take(self, session: str, count: int) -> Slice[T]:
        queue = self._queues[session]
        head = queue[0]
        last = count == head.left
        if last:
            queue.popleft()
        else:
            queue[0] = replace(head, start=head.start + count)
        self._queues.move_to_end(session)
        if not queue:
            del self._queues[session]
        return Slice(session, head.work, head.start, count, last)


def _even(num_steps: int, most: int | None) -> int:
    """How many of `num_steps` to take, so that no batch holds more than `most`: equal parts."""
    if most is None or num_steps <= most:
        return num_steps
    num_batches = -(-num_steps // max(1, most))
    return -(-num_steps // num_batches)
