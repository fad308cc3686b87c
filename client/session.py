"""A session: one generation's way through the swarm, which outlives the peers on it.

The client is the chain's first link and its last: its own feed holds the embedded tokens, and the
last hop's outputs come back to it. A peer's death is no special case: the chain is built anew
around what still works, and the step that was under way goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import torch

from swarm.errors import (
    Busy,
    LocalProtocolError,
    NoRouteError,
    PeerError,
    RemoteProtocolError,
    RequestError,
    StepTimeout,
)
from swarm.session.feed import Computed, Feed
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import (
    MAX_ROWS,
    AnyMessage,
    Code,
    DType,
    Failed,
    HopTimes,
    Output,
    RowRange,
    Step,
    Want,
)
from swarm.wire.tensors import from_buffers, to_buffer

from .chain import Chain, OpenHop, Standing
from .collector import Collector
from .config import SessionConfig
from .exchange import Exchange
from .model_key import ModelKey
from .route import Route
from .router import Router

logger = logging.getLogger(__name__)

_POLL = 0.25
"""Seconds between two looks for somebody who serves what is missing."""


@dataclass(frozen=True)
class RowInput:
    """New positions of one row: `hidden` is `[n, hidden_size]`, from `position` on.

    A position below the row's length rolls the row back first.
    """

    row: int
    position: int
    hidden: torch.Tensor


class Session:
    """Hidden states in, hidden states out, through all blocks of a model.

    One step at a time; `num_rows` sequences side by side. `dtype` is what travels.
    """

    def __init__(
        self,
        key: ModelKey,
        router: Router,
        exchange: Exchange,
        *,
        dtype: DType,
        num_rows: int = 1,
        config: SessionConfig | None = None,
    ) -> None:
        if not 1 <= num_rows <= MAX_ROWS:
            raise RequestError(f"{num_rows} rows; a session has 1 to {MAX_ROWS}")
        self._key = key
        self._router = router
        self._exchange = exchange
        self._dtype = dtype
        self._config = config or SessionConfig()
        self._position_len = key.hidden_size * dtype.itemsize
        self._chain = Chain(key, dtype, router, exchange, self._config)
        self._feed = Feed(num_rows, self._position_len)
        self._settled = [0] * num_rows
        self._keep: tuple[int, ...] = (0,) * num_rows
        self._generation = 0
        self._seen = True
        """Whether all hops have seen this generation: something of it has come out of the last."""
        self._expected_seq = 0
        self._collector: Collector | None = None
        self._request_error: RequestError | None = None
        self._closed = False
        self._excluded: set[str] = set()
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()
        self.num_recoveries = 0
        self.last_times: HopTimes = ()
        """What each hop took over the newest step."""
        exchange.register(self._chain.name, self)

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
        return tuple(hop.hop for hop in self._chain.hops)

    def close(self) -> None:
        """Frees the session on all its hops and ends a step under way; may be called again."""
        self._closed = True
        self._news.set()
        self._exchange.unregister(self._chain.name)
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
            ranges = tuple(RowRange(r.row, r.position, len(r.hidden)) for r in rows)
            self._check(ranges, reorder)
            if not any(span.count for span in ranges):
                return [r.hidden[:0] for r in rows]
            self._advance(ranges, reorder)
            self._collector = Collector(ranges, want, self._position_len)
            for computed in self._cut(rows, want, reorder):
                self._send(self._feed.push(computed))
            try:
                await self._collect(self._collector, sum(span.count for span in ranges))
                self.last_times = self._collector.times
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
        assert not isinstance(message, Step)
        hop = self._chain.find(getattr(message, "session", ""))
        if hop is None or hop.link is not link or self._chain.take_answer(hop, message):
            return
        if isinstance(message, Failed) and message.epoch == self._chain.epoch:
            self._on_failed(hop, message)
            self._news.set()

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended; the hops on it are to be replaced."""
        if self._chain.lose_link(link, error):
            self._router.blame(link.peer, str(error))
            self._news.set()

    def _on_output(self, link: Link, output: Output, payload: Buffer) -> None:
        chain = self._chain
        if output.epoch != chain.epoch or not chain.hops or chain.hops[-1].link is not link:
            return
        if output.seq > self._expected_seq:
            chain.wired = False  # One was lost on the way: rebuild, it is then sent again.
            self._news.set()
        if output.seq != self._expected_seq:
            return
        self._expected_seq += 1
        if self._collector is None or output.generation != self._generation:
            return
        try:
            ends = self._collector.add(output, payload)
        except RemoteProtocolError as error:
            self._router.blame(link.peer, str(error))
            chain.lose(chain.hops[-1])
        else:
            self._seen = True
            for row, end in ends.items():
                self._settled[row] = max(self._settled[row], end)
        self._news.set()

    def _on_failed(self, hop: OpenHop, failed: Failed) -> None:
        error = self._chain.error(hop, failed)
        logger.info("hop failed hop=%s code=%s why=%s", hop.hop, failed.code, failed.message)
        if isinstance(error, RequestError):
            self._request_error = error
            return
        self._chain.wired = False
        if failed.code is Code.STEP_MISSING:
            return
        if failed.code in (Code.BUSY, Code.LEAVING):
            # Others first. If there are none, a full peer is asked again, and then we wait our
            # turn.
            self._excluded.add(error.peer)
        for lost in self._chain.on(error.peer):
            self._chain.lose(lost)

    # One step

    def _check(self, ranges: Sequence[RowRange], reorder: Sequence[int] | None) -> None:
        lengths = list(self.lengths)
        if reorder is not None:
            if not any(span.count for span in ranges):
                raise LocalProtocolError("a reorder travels with new positions")
            lengths = [lengths[source] for source in reorder]
        limit = self._key.context_length
        for span in ranges:
            if span.position > lengths[span.row]:
                raise LocalProtocolError(f"{span} leaves a gap after {lengths[span.row]}")
            if limit and span.position + span.count > limit:
                raise RequestError(
                    f"{span.position + span.count} positions; the model's context is {limit}"
                )

    def _advance(self, ranges: Sequence[RowRange], reorder: Sequence[int] | None) -> None:
        """Moves generation and settled lengths on, as a roll-back or a reorder demands."""
        lengths = self.lengths
        if reorder is not None:
            lengths = tuple(lengths[source] for source in reorder)
            self._settled = [self._settled[source] for source in reorder]
        rolls_back = any(span.position < lengths[span.row] for span in ranges)
        for span in ranges:
            self._settled[span.row] = min(self._settled[span.row], span.position)
        if reorder is not None:
            # Rows of a hop that missed the reorder are other rows: nothing of them can be kept.
            self._keep = (0,) * len(self._settled)
        elif rolls_back and self._seen:
            self._keep = tuple(self._settled)
        elif rolls_back:
            self._keep = tuple(map(min, self._keep, self._settled))
        if rolls_back or reorder is not None:
            self._generation, self._seen = self._generation + 1, False

    def _cut(
        self, rows: Sequence[RowInput], want: Want, reorder: Sequence[int] | None
    ) -> Iterator[Computed]:
        """The step in chunks that travel behind one another.

        The first one rolls back all rows: a hop that has seen a generation has seen all of it.
        """
        order = None if reorder is None else tuple(reorder)
        ahead = [RowRange(entry.row, entry.position, 0) for entry in rows]
        chunk: list[tuple[RowRange, torch.Tensor, bool]] = []
        room = self._config.chunk_len
        for entry in rows:
            count, start = len(entry.hidden), 0
            while start < count:
                take = min(room, count - start)
                span = RowRange(entry.row, entry.position + start, take)
                chunk.append((span, entry.hidden[start : start + take], start + take == count))
                start, room = start + take, room - take
                if room == 0:
                    yield self._computed(chunk, want, order, ahead)
                    chunk, room, order, ahead = [], self._config.chunk_len, None, []
        if chunk:
            yield self._computed(chunk, want, order, ahead)

    def _computed(
        self,
        chunk: Sequence[tuple[RowRange, torch.Tensor, bool]],
        want: Want,
        reorder: tuple[int, ...] | None,
        ahead: Sequence[RowRange],
    ) -> Computed:
        payload = to_buffer(torch.cat([hidden for _, hidden, _ in chunk]), self._dtype)
        if want is Want.LAST and not any(ends for _, _, ends in chunk):
            want = Want.NOTHING
        spans = tuple(span for span, _, _ in chunk)
        spans += tuple(span for span in ahead if span.row not in {s.row for s in spans})
        return Computed(spans, payload, want, self._generation, reorder)

    def _send(self, message: tuple[Step | Output, memoryview] | None) -> None:
        if message is None or not self._chain.wired:
            return
        try:
            self._chain.hops[0].link.post(*message)
        except PeerError:
            self._chain.lose(self._chain.hops[0])

    async def _collect(self, collector: Collector, num_positions: int) -> None:
        """Waits for the outputs, and rebuilds the chain as often as it breaks."""
        silences = 0
        while not collector.done:
            if self._request_error is not None:
                error, self._request_error = self._request_error, None
                self._chain.wired = False
                raise error
            if self._closed:
                raise LocalProtocolError("the session is closed")
            if not self._chain.wired:
                await self._rebuild()
                continue
            self._news.clear()
            settled = list(self._settled)
            try:
                async with asyncio.timeout(self._patience(num_positions, silences)):
                    await self._news.wait()
            except TimeoutError:
                silences += 1
                if silences > self._config.max_silences:
                    last = self._chain.hops[-1].hop.peer
                    raise StepTimeout(last, f"no output after {silences} tries") from None
                logger.info("step silent tries=%d", silences)
                self._chain.wired = False
            if self._settled != settled:
                silences = 0

    def _patience(self, num_positions: int, silences: int) -> float:
        """Seconds without output (a long prompt's comes chunk by chunk) until a step is lost."""
        chunk_len = min(num_positions, self._config.chunk_len)
        expected = chunk_len * sum(hop.prefill_seconds for hop in self.route)
        return float((self._config.step_patience + 4 * expected) * 2**silences)

    # Recovery

    async def _rebuild(self) -> None:
        """Builds the chain anew around what works; raises when nothing more can be tried."""
        loop = asyncio.get_running_loop()
        attempts = 0
        if self._chain.epoch:
            self.num_recoveries += 1
        busy: Busy | None = None
        missing_since: float | None = None
        try:
            while not self._chain.wired and not self._closed:
                try:
                    await self._build()
                except NoRouteError as error:
                    if busy is not None:
                        raise busy from None
                    self._excluded.clear()
                    if missing_since is None:
                        missing_since = loop.time()
                        patience = self._config.route_patience
                        logger.warning("waiting up to %g s for a route: %s", patience, error)
                    if loop.time() - missing_since >= self._config.route_patience:
                        raise
                    await asyncio.sleep(_POLL)
                except PeerError as error:
                    # Waiting for room took its own time: it does not count as waiting for a route.
                    attempts, missing_since = attempts + 1, None
                    logger.info("route failed attempt=%d why=%s", attempts, error)
                    # Kept out of the next try, without being blamed.
                    self._excluded.add(error.peer)
                    busy = error if isinstance(error, Busy) else busy
                    if attempts >= self._config.max_attempts:
                        raise
        finally:
            self._excluded.clear()

    async def _build(self) -> None:
        lengths = self.lengths
        settled = tuple(self._settled)
        standing = Standing(self._generation, lengths, settled, self._keep, max(lengths))
        next_ = await self._chain.build(standing, self, frozenset(self._excluded))
        # Only now: what the old epoch still brought while others were asked has counted there.
        self._expected_seq = 0
        route, epoch = " ".join(str(hop) for hop in self.route), self._chain.epoch
        logger.info("route wired epoch=%d hops=%d route=%s", epoch, len(self.route), route)
        for message in self._feed.wire(epoch, next_):
            self._send(message)

    def _tensors(self, collector: Collector) -> list[torch.Tensor]:
        size = self._key.hidden_size
        return [from_buffers([data], self._dtype, size) for data in collector.result()]
