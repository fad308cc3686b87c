"""The loop that computes: take a batch, run it on the one compute thread, hand the parts back.

Between two batches nothing computes, and only then are rows of the page table made, reordered and
freed: the page table needs no lock.

A batch that is known to be brief is run where it is taken, without the thread: waking the thread
and being woken by it costs 0.3 ms on a machine whose caches hold the weights and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, TypeVar

import torch

from swarm.wire.messages import HopTime, Keep
from swarm.wire.tensors import all_finite, from_buffers, to_buffer

from .kept import Kept, KeptPrefixes
from .load import Load, Ran, Speed
from .rhythm import Rhythm
from .runner import RowStep, Runner
from .scheduler import Scheduler, Slice
from .session import Arrival, Done, HopSession, Part, cut
from .tally import Phase, Tally

logger = logging.getLogger(__name__)

T = TypeVar("T")


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


class Owner(Protocol):
    """Whoever gets what has been computed."""

    def on_done(self, session: HopSession, done: Done) -> None:
        """A part of a step has been computed."""

    def on_compute_failed(self, session: HopSession, error: Exception) -> None:
        """A batch with this session in it could not be computed."""


class Engine:
    """Runs the steps of all sessions through one span, and gives what comes out to `owner`.

    `load` is told what runs. Batches of less than `brief` seconds are computed in the event loop's
    thread.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler[Arrival],
        owner: Owner,
        kept: KeptPrefixes,
        load: Load | None = None,
        *,
        tally: Tally | None = None,
        brief: float = 0.0,
    ) -> None:
        self._runner = runner
        self._tally = tally or Tally()
        self._scheduler = scheduler
        self._owner = owner
        self._load = load or Load(Speed(0.0, 0.0))
        self._rhythm = Rhythm(self._load.idle.decode_seconds, self._load.idle.prefill_seconds)
        self._sessions: dict[str, HopSession] = {}
        self._kept = kept
        self._recalled: list[tuple[HopSession, Kept, int]] = []
        self._keeping: list[tuple[HopSession, Keep]] = []
        self._retired: list[HopSession] = []
        self._asides: deque[tuple[Callable[[Runner], Any], asyncio.Future[Any]]] = deque()
        # Steps in the largest batch of the hop before of which some are ready here.
        self._batch_before = 0
        self._wake = asyncio.Event()
        self._brief = Brief(brief, one_thread=_one_thread(runner))
        self.num_batches = 0
        self.num_positions = 0

    def recall(self, session: HopSession, kept: Kept, length: int) -> None:
        """The session's row begins as the first `length` positions of what was kept."""
        self._recalled.append((session, kept, length))
        self._wake.set()

    def keep(self, session: HopSession, keep: Keep) -> None:
        """Keeps some of what the session has in here, also if it is retired now."""
        self._keeping.append((session, keep))
        self._wake.set()

    def submit(self, session: HopSession, arrival: Arrival) -> None:
        """Queues a step; its parts go to the owner, in order."""
        self._sessions[session.id] = session
        if self._scheduler.is_decode(arrival.num_positions):
            self._rhythm.came(session.id, asyncio.get_running_loop().time())
            if times := arrival.step.times:
                self._batch_before = max(self._batch_before, times[-1].batch)
        self._scheduler.add(session.id, arrival, arrival.num_positions, kind=session.blocks)
        self._wake.set()

    async def aside(self, job: Callable[[Runner], T]) -> T:
        """The result of `job`, on the compute thread, once no session has anything to compute.

        It leaves no row behind. Raises what `job` raises.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asides.append((job, done))
        self._wake.set()
        return await done

    def drop_steps(self, session: HopSession) -> None:
        """Forgets the session's queued steps; one that is being computed still comes back."""
        self._scheduler.drop(session.id)

    def retire(self, session: HopSession) -> None:
        """Frees everything the session has in here, once nothing of it is being computed."""
        self._scheduler.drop(session.id)
        self._sessions.pop(session.id, None)
        self._rhythm.forget(session.id)
        self._retired.append(session)
        self._wake.set()

    async def run(self) -> None:
        """Computes until cancelled."""
        with ThreadPoolExecutor(1, thread_name_prefix="compute") as thread:
            while True:
                self._settle_rows()
                idle = not len(self._scheduler)
                if idle and self._asides:
                    await self._run_aside(thread, *self._asides.popleft())
                    continue
                if idle:
                    await self._rest()
                await self._linger(idle=idle)
                self._settle_rows()
                if batch := self._next_batch():
                    await self._run_batch(thread, batch)
                    await asyncio.sleep(0)  # One that did not wait has let nobody have a turn.

    async def _run_aside(
        self, thread: ThreadPoolExecutor, job: Callable[[Runner], Any], done: asyncio.Future[Any]
    ) -> None:
        if done.cancelled():
            return
        try:
            result = await asyncio.get_running_loop().run_in_executor(thread, job, self._runner)
        except Exception as error:
            if not done.cancelled():
                done.set_exception(error)
        else:
            if not done.cancelled():
                done.set_result(result)

    async def _linger(self, *, idle: bool) -> None:
        """Waits a moment for steps that come just behind the first."""
        clock, rhythm = asyncio.get_running_loop().time, self._rhythm
        now, num_ready = clock(), len(self._scheduler)
        # Behind the client it is not known who comes along; behind a hop its batch is.
        promised = self._batch_before > 0
        awaited = len(rhythm.decoding(now))
        if promised:
            awaited = min(awaited, self._batch_before)
        if not (idle or promised) or not 0 < num_ready < awaited:
            return  # Nobody waits, or nobody else is to come.
        seconds = rhythm.linger(promised=promised)
        while clock() < now + seconds and len(self._scheduler) < awaited:
            self._wake.clear()
            try:
                async with asyncio.timeout_at(now + seconds):
                    await self._wake.wait()
            except TimeoutError:
                break
        rhythm.lingered(seconds, len(self._scheduler) - num_ready, promised=promised)

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
            # It may have written over what was to be kept.
            failed = {entry.session.id for entry in batch}
            self._keeping = [entry for entry in self._keeping if entry[0].id not in failed]
            for entry in batch:
                entry.session.running = False
                self._owner.on_compute_failed(entry.session, error)
            return
        self.num_batches += 1
        self.num_positions += num_positions
        self._brief.note(num_positions, seconds)
        self._note(batch, started, seconds)
        for entry, output in zip(batch, outputs, strict=True):
            queue = max(0.0, started - entry.slice.work.time)
            time = HopTime(*entry.session.blocks, int(queue * 1e6), int(seconds * 1e6), len(batch))
            entry.session.running = False
            if output is None:
                # Whoever got it would say so of us; and what it left in our pages is no good.
                fault = ArithmeticError("the blocks gave numbers that are not finite")
                self._owner.on_compute_failed(entry.session, fault)
                continue
            done = Done(entry.part, output, time, entry.slice.work, last=entry.slice.last)
            self._owner.on_done(entry.session, done)

    def _note(self, batch: list[_Entry], started: float, seconds: float) -> None:
        """Tells those who watch the speed about a batch that has run."""
        now = asyncio.get_running_loop().time()
        decode = [e for e in batch if self._scheduler.is_decode(e.slice.work.num_positions)]
        num_rows = sum(entry.slice.count for entry in decode)
        num_prefill = sum(entry.slice.count for entry in batch) - num_rows
        waited = sum(max(0.0, started - entry.slice.work.time) for entry in decode)
        queue = waited / len(decode) if decode else 0.0
        self._load.ran(Ran(seconds, len(decode), num_prefill, queue), now)
        self._count(batch, started, seconds)
        if decode and not num_prefill:
            # A session that was closed meanwhile does not come back.
            living = [e.session.id for e in decode if e.session.id in self._sessions]
            self._rhythm.ran(living, num_rows, seconds, now)

    def _count(self, batch: list[_Entry], started: float, seconds: float) -> None:
        tally = self._tally
        tally.compute.note(seconds)
        tally.batch_steps.note(len(batch))
        for entry in batch:
            work = entry.slice.work
            decode = self._scheduler.is_decode(work.num_positions)
            phase = tally.phases[Phase.DECODE if decode else Phase.PREFILL]
            phase.ran(entry.slice.count, max(0.0, started - work.time))

    def _next_batch(self) -> list[_Entry]:
        now, self._batch_before = asyncio.get_running_loop().time(), 0
        pieces = self._scheduler.next_batch(
            self._runner.span.max_sessions_per_batch,
            max_decode=self._rhythm.max_steps(now),
            decoding=self._rhythm.decoding(now),
        )
        entries = []
        for piece in pieces:
            session = self._sessions[piece.session]
            part = cut(piece.work, piece.start, piece.count, session.position_len)
            session.prepare(self._runner.pages, part)
            entries.append(_Entry(session, piece, part))
        self._kept.make_room(lambda: self._pages_needed(entries))
        return entries

    def _pages_needed(self, batch: list[_Entry]) -> int:
        pages = self._runner.pages
        return sum(
            pages.pages_needed(entry.session.rows[span.row], span.position, span.count)
            for entry in batch
            if entry.session.rows is not None
            for span in entry.part.rows
        )

    def _compute(self, batch: list[_Entry]) -> tuple[list[memoryview | None], float]:
        """What comes out for each entry (None if that is no finite number), and the seconds."""
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
            _finite(to_buffer(part, entry.session.dtype), entry.session)
            for part, entry in zip(parts, batch, strict=True)
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

    def _settle_rows(self) -> None:
        """Makes the rows of sessions that have opened and frees those of closed ones.

        What is kept changes last: whoever was told of it has its row by then.
        """
        now, pages = asyncio.get_running_loop().time(), self._runner.pages
        for session, kept, length in self._recalled:
            session.rows = [pages.copy_row(kept.row, length)]
        self._recalled.clear()
        for session, keep in self._keeping:
            self._kept.take(session, keep, now)
        self._keeping.clear()
        for session in self._retired:
            for row in session.rows or ():
                pages.remove_row(row)
            session.rows = None
        self._retired.clear()
        self._kept.expire(now)

    async def _rest(self) -> None:
        """Until there is something to do."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._kept.expires_at):
                await self._wake.wait()


def _finite(output: memoryview, session: HopSession) -> memoryview | None:
    return output if all_finite(output, session.dtype, session.position_len) else None


def _one_thread(runner: Runner) -> bool:
    return runner.span.device.type != "cpu" or torch.get_num_threads() == 1
