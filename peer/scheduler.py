"""Which steps of which sessions run next: policy only, no torch, no clock.

One batch holds at most one step of a session, decode steps before long prefills, in turn between
sessions. A prefill alone takes whole batches; beside decode steps it gets one chunk a batch, which
is kept free for it. So neither waits for more than one batch of the other.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from swarm.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class SchedulerConfig:
    """Sizes of a batch, in positions.

    A step of at most `decode_len` positions counts as decode. A batch holds up to `batch_len`
    positions, but once decode steps are in it, at most `chunk_len` of prefill beside them.
    """

    decode_len: int = 8
    chunk_len: int = 128
    batch_len: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.decode_len <= self.chunk_len <= self.batch_len - self.decode_len:
            raise ConfigError(
                "a scheduler needs 0 < decode_len <= chunk_len <= batch_len - decode_len"
            )


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

    def add(self, session: str, work: T, num_positions: int, kind: Hashable = None) -> None:
        """Queues a step behind the session's earlier ones."""
        self._queues.setdefault(session, deque()).append(_Work(work, kind, 0, num_positions))

    def drop(self, session: str) -> list[T]:
        """Forgets a session's steps and returns them."""
        return [entry.work for entry in self._queues.pop(session, deque())]

    def next_batch(self, max_sessions: int | None = None) -> list[Slice[T]]:
        """Takes the next batch; empty when nothing is ready."""
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
        for name, head in decode.items():
            if head.left > room:
                break
            room -= head.left
            batch.append(self._take(name, head.left))
        room = config.chunk_len if batch else config.batch_len
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
