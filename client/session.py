"""A session: one generation's way through the swarm, which outlives the peers on it.

The client is the chain's first link and its last: its own feed holds the embedded tokens, and the
last hop's outputs come back to it. A peer's death is no special case: the chain is built anew
around what still works, and the step that was under way goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from operator import sub
from types import TracebackType

import torch

from swarm.errors import (
    LocalProtocolError,
    Misbehaved,
    PeerError,
    RemoteProtocolError,
    RequestError,
    Silent,
    StepTimeout,
)
from swarm.session.feed import Feed
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.transport.tally import kind
from swarm.wire.messages import (
    MAX_ROWS,
    AnyMessage,
    Code,
    DType,
    Failed,
    HopTimes,
    Leaving,
    Output,
    Step,
    Want,
)
from swarm.wire.tensors import from_buffers

from .access import Access
from .auditing.watch import Watch
from .chain import Chain
from .chunks import Cutter, RowInput, check_step
from .collector import Collector
from .handover import Handover
from .hop import OpenHop
from .keeping import Keeping
from .model_key import ModelKey
from .pace import Patience
from .progress import Progress
from .recovery import Recovery, pause_before
from .route import Route
from .sending import Sending
from .succession import Succession
from .timing import Passage
from .transcript import Transcript

logger = logging.getLogger(__name__)

_KEEP_LEN = 256
"""Positions after which what was computed is kept for others while the session goes on."""

_FEW = 8
"""Positions that take about as long as one: what peers announce is for those."""


class Session:
    """Hidden states in, hidden states out, through all blocks of a model.

    One step at a time; `num_rows` sequences side by side. `dtype` is what travels. With a
    `transcript`, which is for one row, peers keep what they have computed for its tokens when the
    session is closed, and may begin with what they have kept of an earlier one.
    """

    def __init__(
        self,
        key: ModelKey,
        access: Access,
        *,
        dtype: DType,
        num_rows: int = 1,
        transcript: Transcript | None = None,
    ) -> None:
        if not 1 <= num_rows <= MAX_ROWS:
            raise RequestError(f"{num_rows} rows; a session has 1 to {MAX_ROWS}")
        self._key = key
        self._access = access
        self._dtype = dtype
        assert transcript is None or num_rows == 1
        self._config = config = access.config
        self._position_len = dtype.position_len(key.hidden_size)
        self._chain = Chain(key, dtype, access.router, access.exchange, config)
        self._feed = Feed(num_rows, self._position_len)
        self._progress = Progress(num_rows)
        self._keeping = Keeping(transcript, self._chain, self._progress, access.router.recollection)
        self._watch = Watch(key, dtype, self._chain, self._feed, access.auditor, access.tasks)
        self.distrusted = self._watch.distrusted
        """Peers that this session went through and that were then found to compute wrongly."""
        self._sending = Sending(self._chain, access.tasks, self._on_unsent)
        self._cutter = Cutter(config.chunk_len, dtype)
        self._patience = Patience(config)
        self._expected_seq = 0
        self._collector: Collector | None = None
        self._request_error: RequestError | None = None
        self._closed = False
        self._excluded: set[str] = set()
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self._succession = Succession(self._chain, key, access, self._adopt)
        self.num_recoveries = 0
        self.num_handovers = 0
        self.num_recalled = 0
        """Positions at the beginning that every hop had kept from earlier sessions."""
        self.last_times: HopTimes = ()
        """What each hop took over the newest step."""
        access.exchange.register(self._chain.name, self)
        access.tally.num_opened += 1
        access.tally.num_open += 1

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions of each row."""
        return self._feed.history.lengths

    @property
    def route(self) -> Route:
        """The hops that the session goes through now."""
        return self._chain.route

    @property
    def passage(self) -> Passage:
        """The way of the newest step, if the route is still the same."""
        links = [hop.link for hop in self._chain.hops]
        first_trip = (links[0].round_trip or 0.0) / 2 if links else 0.0
        names = tuple(link.standing.name for link in links)
        return Passage(self.route, names, self.last_times, first_trip)

    def tell(self, passage: Passage, seconds: float) -> None:
        """Tells whoever watches which way a decode step has taken."""
        self._access.passages.tell(self._key.fingerprint, passage, seconds)

    def close(self) -> None:
        """Frees the session on all its hops and ends a step under way; may be called again."""
        self._access.tally.num_open -= not self._closed
        self._closed = True
        self._news.set()
        self._access.exchange.unregister(self._chain.name)
        self._access.standbys.forget(self._chain.name)
        self._access.refills.end(self._chain.name)
        self._keeping.tell(0)
        self._sending.clear()
        self._succession.cancel()
        if self._collector is None:
            # What is checked of it now, its hops must still show.
            self._watch.finish()
        else:
            self._chain.close()

    async def step(
        self,
        rows: Sequence[RowInput],
        want: Want = Want.LAST,
        reorder: Sequence[int] | None = None,
    ) -> list[torch.Tensor]:
        """Runs new positions through all blocks.

        One result per input: `[n, hidden_size]`, or as many positions as `want` names.
        With `reorder`, row `i` first becomes what row `reorder[i]` was. Raises `RequestError` for
        what no swarm could do, `NoRouteError` if blocks stay missing, `PeerError` if recovery was
        given up; the session may then be used again from any position that it has reached.
        """
        async with self._lock:
            self._request_error = None  # One that came after its step was given up.
            ranges = tuple(row.range for row in rows)
            check_step(ranges, reorder, self.lengths, self._key.context_length)
            if not any(span.count for span in ranges):
                return [r.hidden[:0] for r in rows]
            num_positions = sum(span.count for span in ranges)
            self._excluded |= self._watch.leave(self._keeping)
            rows = self._recall(rows, want)
            ranges = tuple(row.range for row in rows)
            self._progress.advance(self.lengths, ranges, reorder)
            self._collector = Collector(ranges, want, self._position_len, self._dtype)
            for computed in self._cutter.cut(rows, want, reorder, self._progress.generation):
                self._watch.send(computed)
                self._send(self._feed.push(computed))
            try:
                await self._collect(self._collector, num_positions)
                self.last_times = self._collector.times
                self._keeping.tell(_KEEP_LEN)
                return self._tensors(self._collector)
            finally:
                self._collector = None
                if self._closed:
                    self._chain.close()  # It may have been in the middle of being built.

    # What comes in

    def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> None:
        """One message from a hop."""
        if isinstance(message, Output):
            self._on_output(link, message, payload)
            return
        hop = self._chain.find(getattr(message, "session", ""))
        if hop is None or hop.link is not link:
            return
        if isinstance(message, Leaving):
            self._on_leaving(hop)
        elif hop.answer(message):
            return
        elif isinstance(message, Failed) and message.epoch == self._chain.epoch:
            self._on_failed(hop, message)
            self._news.set()

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended; the hops on it are to be replaced."""
        if self._chain.lose_link(link, error):
            # A connection that ends is no fault: whether the peer is gone, dialling it will show.
            if isinstance(error, Silent | Misbehaved):
                self._access.router.blame(link.peer, str(error))
            self._access.tally.faults[kind(error)] += 1
            self._excluded.add(link.peer)
            self._news.set()

    def _on_output(self, link: Link, output: Output, payload: Buffer) -> None:
        chain = self._chain
        if output.epoch != chain.epoch or not chain.hops or chain.hops[-1].link is not link:
            link.charge()
            return
        if output.seq > self._expected_seq:
            chain.wired = False  # One was lost on the way: rebuild, it is then sent again.
            self._news.set()
        if output.seq != self._expected_seq:
            link.charge()
            return
        self._expected_seq += 1
        if self._collector is None or output.generation != self._progress.generation:
            return
        try:
            self._check_output(output)
            ends = self._collector.add(output, payload)
        except RemoteProtocolError as error:
            self._access.router.blame(link.peer, str(error))
            self._excluded.add(link.peer)
            self._keeping.distrust()
            chain.lose(chain.hops[-1])
        else:
            self._access.refills.end(chain.name)
            self._progress.settle(ends)
            self._watch.receive(output, payload)
        self._news.set()

    def _check_output(self, output: Output) -> None:
        lengths = self.lengths
        for span in output.rows:
            if span.row >= len(lengths) or span.position + span.count > lengths[span.row]:
                raise RemoteProtocolError(f"{span} came out, which was never sent")

    def _on_failed(self, hop: OpenHop, failed: Failed) -> None:
        fault = self._chain.fault(hop, failed)
        self._access.tally.faults[kind(fault.error)] += 1
        logger.info("hop failed hop=%s code=%s why=%s", hop.hop, failed.code, failed.message)
        if isinstance(fault.error, RequestError):
            self._request_error = fault.error
            return
        if isinstance(fault.error, Misbehaved):
            self._keeping.distrust()
        self._chain.wired = False
        if failed.code is Code.NEXT_UNREACHABLE:
            self._access.router.separate(hop.hop.peer, fault.error.peer)
        if fault.excludes:
            self._excluded.add(fault.error.peer)
        if fault.loses_hop:
            for lost in self._chain.on(fault.error.peer):
                self._chain.lose(lost)

    def _on_leaving(self, hop: OpenHop) -> None:
        if self._closed:
            self._chain.close()  # Only a check held it open: whoever leaves does not wait for that.
            return
        for other in self._chain.on(hop.hop.peer):
            other.leaving = True
        self._succession.begin(self._progress, self._feed)

    # One step

    def _recall(self, rows: Sequence[RowInput], want: Want) -> Sequence[RowInput]:
        """Notes the tokens, and sets apart what peers may have kept of how a new text begins.

        That is treated as what has been computed before and lost: the chain is filled from where
        each hop says that it is. Returns what remains of the step.
        """
        whole = rows[0]
        self._keeping.write(whole)
        fresh = not self._chain.epoch and not self.lengths[0]
        offer = self._keeping.prefixes(len(whole.hidden) - 1)
        if not (fresh and offer) or want is Want.ALL:
            return rows
        length = offer[-1].length
        self._progress.spare(0, length)
        begin = RowInput(0, 0, whole.hidden[:length])
        for computed in self._cutter.cut([begin], Want.NOTHING, None, self._progress.generation):
            self._watch.send(computed)
            self._feed.push(replace(computed, refill=True))
        return [RowInput(0, length, whole.hidden[length:])]

    def _send(self, message: tuple[Step | Output, memoryview] | None) -> None:
        if message is not None:
            self._sending.post(*message)

    def _on_unsent(self) -> None:
        first = self._chain.hops[0]
        self._excluded.add(first.hop.peer)
        self._chain.lose(first)
        self._news.set()

    async def _collect(self, collector: Collector, num_positions: int) -> None:
        """Waits for the outputs, and rebuilds the chain as often as it breaks."""
        clock = asyncio.get_running_loop().time
        started, silences, epoch = clock(), 0, self._chain.epoch
        rebuilds, settled_before = 0, self._progress.settled
        while not collector.done:
            self._raise_what_ended_it()
            if not self._chain.wired:
                if self._progress.settled != settled_before:
                    rebuilds, settled_before = 0, self._progress.settled
                rebuilds += 1
                await self._rebuild(rebuilds)
                continue
            self._news.clear()
            settled, sending = self._progress.settled, self._sending.busy
            lacking = self._access.refills.ahead(hop.peer for hop in self.route)
            patience = self._patience.seconds(num_positions, lacking, self.route, silences)
            self._chain.attend(patience)
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                if not self._chain.wired or sending:
                    continue  # It broke in the same turn of the loop, or was not all sent.
                silences += 1
                if silences > self._config.max_silences:
                    last = self._chain.hops[-1].hop.peer
                    raise StepTimeout(last, f"no output after {silences} tries") from None
                logger.info("step silent tries=%d after=%.1fs", silences, patience)
                self._chain.wired = False
            if self._progress.settled != settled:
                silences = 0
        if self._chain.epoch == epoch or (not epoch and self._chain.epoch == 1):
            self._watch.stepped(num_positions)
        if self._chain.epoch == epoch:
            seconds = clock() - started
            self._patience.note(num_positions, seconds)
            if not rebuilds and num_positions <= _FEW:
                self._access.router.learn(self.route, collector.times, seconds)

    def _raise_what_ended_it(self) -> None:
        if self._request_error is not None:
            error, self._request_error = self._request_error, None
            self._chain.wired = False
            raise error
        if self._closed:
            raise LocalProtocolError("the session is closed")

    # Recovery

    async def _rebuild(self, number: int = 1) -> None:
        """Builds the chain anew around what works; raises when nothing more can be tried.

        `number` counts the chains of this step that have brought nothing.
        """
        if number > self._config.max_attempts:
            last = self._chain.hops[-1].hop.peer if self._chain.hops else ""
            raise StepTimeout(last, f"{number - 1} routes broke before anything came of them")
        await pause_before(number)
        if self._chain.epoch:
            self.num_recoveries += 1
            self._access.tally.num_recoveries += 1
        recovery = Recovery(self._config, self._excluded, self._access.on_wait)
        try:
            await recovery.run(self._build)
        finally:
            self._excluded.clear()

    async def _build(self, excluded: frozenset[str]) -> None:
        if self._closed:
            return
        standing = self._progress.standing(self.lengths)
        known = max(standing.settled[0], standing.spared[0])
        standing = replace(standing, prefixes=self._keeping.prefixes(known))
        num_settled = sum(standing.settled)
        next_ = await self._chain.build(standing, self, excluded)
        if self._closed:
            return  # Meanwhile: nobody would take back what is noted of it from here on.
        if not num_settled:
            self.num_recalled = min(self._chain.has)
        self._keeping.forget()
        lacking = max(map(sub, next_.settled, self._chain.has))
        self._access.refills.begin(self._chain.name, (hop.peer for hop in self.route), lacking)
        self._progress.recall(next_.settled)
        self._sending.clear()
        # Only now: what the old epoch still brought while others were asked has counted there.
        self._expected_seq = 0
        route, epoch = " ".join(str(hop) for hop in self.route), self._chain.epoch
        logger.info("route wired epoch=%d hops=%d route=%s", epoch, len(self.route), route)
        self._access.standbys.note(self._chain.name, self._key, self.route)
        for message in self._feed.wire(epoch, next_):
            self._send(message)

    # Leaving

    async def _adopt(self, handover: Handover) -> bool:
        """Goes on with the heirs, between two steps; whether they came in time."""
        async with self._lock:
            if self._closed or not handover.adopt():
                return False
            self.num_handovers += 1
            self._access.tally.num_handovers += 1
            num_recoveries = self.num_recoveries
            await self._rebuild()
            self._access.tally.num_recoveries -= self.num_recoveries - num_recoveries
            self.num_recoveries = num_recoveries
            return True

    def _tensors(self, collector: Collector) -> list[torch.Tensor]:
        size = self._key.hidden_size
        return [from_buffers([data], self._dtype, size) for data in collector.result()]
