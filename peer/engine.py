"""The loop that computes: take a batch, run it on the one compute thread, hand the parts back.

Between two batches nothing computes, and only then are rows of the page table made, reordered and
freed: the page table needs no lock.

A batch that is known to be brief is run where it is taken, without the thread: waking the thread
and being woken by it costs 0.3 ms on a machine whose caches hold the weights and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import torch

from swarm.wire.messages import HopTime
from swarm.wire.tensors import from_buffers, to_buffer

from .runner import RowStep, Runner
from .scheduler import Scheduler, Slice
from .session import Arrival, Done, HopSession, Part, cut

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    session: HopSession
    slice: Slice[Arrival]
    part: Part


class Brief:
    """Which batches are brief, by how long those of as many positions took lately.

    Those that take less than `limit` seconds. None where torch uses several threads: OpenMP keeps a
    pool of them for every thread that calls it, and the workers of two pools on the same cores have
    to sleep where those of one would spin.
    """

    def __init__(self, limit: float, *, one_thread: bool) -> None:
        self._limit = limit if one_thread else 0.0
        self._seconds: dict[int, float] = {}

    def expects(self, num_positions: int) -> bool:
        """Whether a batch of so many positions will be brief."""
        return self._seconds.get(num_positions, self._limit) < self._limit

    def note(self, num_positions: int, seconds: float) -> None:
        """A batch of so many positions has been computed."""
        # One that was slow because somebody else had the core does not change it for long.
        usual = self._seconds.get(num_positions, seconds)
        self._seconds[num_positions] = usual + 0.25 * (seconds - usual)


class Engine:
    """Runs the steps of all sessions through one span.

    `on_done` gets each finished part, `on_failed` each session whose batch could not be computed.
    Batches of less than `brief` seconds are computed in the event loop's thread.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler[Arrival],
        on_done: Callable[[HopSession, Done], None],
        on_failed: Callable[[HopSession, Exception], None],
        brief: float = 0.0,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._on_done = on_done
        self._on_failed = on_failed
        self._sessions: dict[str, HopSession] = {}
        self._retired: list[HopSession] = []
        self._wake = asyncio.Event()
        self._brief = Brief(brief, one_thread=_one_thread(runner))
        self.num_batches = 0
        self.num_positions = 0

    def submit(self, session: HopSession, arrival: Arrival) -> None:
        """Queues a step; its parts come back through `on_done`, in order."""
        self._sessions[session.id] = session
        self._scheduler.add(session.id, arrival, arrival.num_positions, kind=session.blocks)
        self._wake.set()

    def drop_steps(self, session: HopSession) -> None:
        """Forgets the session's queued steps; one that is being computed still comes back."""
        self._scheduler.drop(session.id)

    def retire(self, session: HopSession) -> None:
        """Frees everything the session has in here, once nothing of it is being computed."""
        self._scheduler.drop(session.id)
        self._sessions.pop(session.id, None)
        self._retired.append(session)
        self._wake.set()

    async def run(self) -> None:
        """Computes until cancelled."""
        with ThreadPoolExecutor(1, thread_name_prefix="compute") as thread:
            while True:
                self._free_retired()
                batch = self._next_batch()
                if not batch:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                await self._run_batch(thread, batch)
                await asyncio.sleep(0)  # One that did not wait has let nobody else have a turn.

    async def _run_batch(self, thread: ThreadPoolExecutor, batch: list[_Entry]) -> None:
        loop = asyncio.get_running_loop()
        num_positions = sum(entry.slice.count for entry in batch)
        for entry in batch:
            entry.session.running = True
        started = loop.time()
        try:
            if self._brief.expects(num_positions):
                outputs, seconds = self._compute(batch)
            else:
                outputs, seconds = await loop.run_in_executor(thread, self._compute, batch)
        except Exception as error:
            # A batch is the root of its computation: whatever goes wrong in it ends the sessions
            # that were in it, not the peer.
            logger.exception("batch failed sessions=%d", len(batch))
            for entry in batch:
                entry.session.running = False
                self._on_failed(entry.session, error)
            return
        self.num_batches += 1
        self.num_positions += num_positions
        self._brief.note(num_positions, seconds)
        for entry, output in zip(batch, outputs, strict=True):
            queue = max(0.0, started - entry.slice.work.time)
            time = HopTime(*entry.session.blocks, int(queue * 1e6), int(seconds * 1e6), len(batch))
            entry.session.running = False
            self._on_done(entry.session, Done(entry.part, output, time, entry.slice.work))

    def _next_batch(self) -> list[_Entry]:
        entries = []
        for piece in self._scheduler.next_batch(self._runner.span.max_sessions_per_batch):
            session = self._sessions[piece.session]
            part = cut(piece.work, piece.start, piece.count, session.position_len)
            session.prepare(self._runner.pages, part)
            entries.append(_Entry(session, piece, part))
        return entries

    def _compute(self, batch: list[_Entry]) -> tuple[list[memoryview], float]:
        started = perf_counter()
        rows: list[RowStep] = []
        counts: list[int] = []
        for entry in batch:
            assert entry.session.rows is not None
            counts.append(sum(span.count for span in entry.part.rows))
            rows += [
                RowStep(entry.session.rows[span.row], span.position, span.count)
                for span in entry.part.rows
            ]
        output = self._runner.run(rows, self._gather(batch), batch[0].session.blocks)
        parts = torch.split(output, counts) if len(batch) > 1 else (output,)
        buffers = [
            to_buffer(part, entry.session.dtype) for part, entry in zip(parts, batch, strict=True)
        ]
        return buffers, perf_counter() - started

    def _gather(self, batch: list[_Entry]) -> torch.Tensor:
        """The batch's inputs `[positions, hidden_size]`, whatever types the sessions send in."""
        size = self._runner.span.hidden_size
        dtypes = {entry.session.dtype for entry in batch}
        if len(dtypes) == 1:
            return from_buffers([entry.part.payload for entry in batch], dtypes.pop(), size)
        parts = [from_buffers([e.part.payload], e.session.dtype, size).float() for e in batch]
        return torch.cat(parts)

    def _free_retired(self) -> None:
        for session in self._retired:
            for row in session.rows or ():
                self._runner.pages.remove_row(row)
            session.rows = None
        self._retired.clear()


def _one_thread(runner: Runner) -> bool:
    return runner.span.device.type != "cpu" or torch.get_num_threads() == 1
