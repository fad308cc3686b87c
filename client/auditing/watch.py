"""What is checked of one session: drawn in secret, gathered, and handed to the auditor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from typing import Any

from swarm.errors import PeerError
from swarm.session.feed import Computed, Feed
from swarm.transport import Buffer
from swarm.wire.messages import MAX_TRACED_ROWS, DType, Output

from ..chain import Chain
from ..hop import OpenHop
from ..keeping import Keeping
from ..model_key import ModelKey
from .auditor import Auditor
from .copies import CopyOf, traced
from .ledger import Ledger, Point
from .trial import Evidence

logger = logging.getLogger(__name__)


class Watch:
    """Follows one session and its chain; `tasks` owns the checks. `feed` is the client's own.

    Sessions of more than `MAX_TRACED_ROWS` rows are not checked.
    """

    def __init__(
        self,
        key: ModelKey,
        dtype: DType,
        chain: Chain,
        feed: Feed,
        auditor: Auditor,
        tasks: asyncio.TaskGroup,
    ) -> None:
        num_rows = len(feed.history.lengths)
        self._key = key
        self._dtype = dtype
        self._chain = chain
        self._feed = feed
        self._auditor = auditor
        self._tasks = tasks
        self._position_len = dtype.position_len(key.hidden_size)
        self._on = auditor.enabled and num_rows <= MAX_TRACED_ROWS
        self._ledger = Ledger(num_rows, self._position_len)
        self._glanced: set[str] = set()
        self._accused: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._finished = False
        self._missing: int | None = None
        # Peers that this session leaves, without anything being proved.
        self._left: set[str] = set()
        self.distrusted: list[str] = []
        """Peers that the session went through and that were then found to compute wrongly."""
        chain.traced = self._on

    # What passes

    def send(self, computed: Computed) -> None:
        """The client sends a step."""
        if self._on:
            self._ledger.send(computed)

    def receive(self, output: Output, payload: Buffer) -> None:
        """An output has come that makes sense; what the hops say with it is compared."""
        if not self._on:
            return
        hops = self._chain.hops
        points, self._missing = self._ledger.receive(output, payload, hops)
        for point in points:
            self._compare(point)

    def stepped(self, num_positions: int) -> None:
        """A step has come back, on the chain on which it was sent."""
        if not self._on:
            return
        self._auditor.note(num_positions, self._key.num_blocks)
        rows = range(len(self._feed.history.lengths))
        lengths = self._feed.history.lengths
        if not any((p := self._ledger.newest(r, lengths[r])) and p.end == lengths[r] for r in rows):
            # What is sent again after a loss comes without; this was not.
            last = len(self._chain.hops) - 1
            self._miss(last if self._missing is None else self._missing)
            return
        for row in rows:
            if (point := self._ledger.first(row)) is not None:
                self._glance(point, num_positions / len(rows))

    # What follows for the session

    def leave(self, keeping: Keeping) -> set[str]:
        """Takes out hops that are not to be trusted; returns the peers that must not come back.

        What the hops after one of them hold is made of what it sent: they go too, to be filled
        anew, and nothing of the session is worth to be kept.
        """
        left, self._left = self._left, set()
        left |= self._distrust()
        hops = self._chain.hops
        wrong = [hop for hop in hops if hop.hop.peer in left]
        if not wrong:
            return set()
        keeping.distrust()
        for hop in hops[hops.index(wrong[0]) :]:
            self._chain.lose(hop)
        return left

    def _distrust(self) -> frozenset[str]:
        """Notes which of the hops were caught meanwhile; returns all that were."""
        caught = self._auditor.caught()
        for peer in (hop.hop.peer for hop in self._chain.hops):
            if peer in caught and peer not in self.distrusted:
                self.distrusted.append(peer)
        return caught

    # What is drawn

    def _glance(self, point: Point, num_positions: float) -> None:
        """Perhaps has the beginning of a row checked at once, hop by hop."""
        for index, hop in enumerate(point.hops):
            if hop.session in self._glanced or hop not in self._chain.hops:
                continue
            rate = self._auditor.rate(hop.hop.peer)
            share = 1.0 if rate >= 1 else rate / 2 * num_positions / point.end
            if point.end <= self._auditor.config.max_positions and self._auditor.chance(share):
                self._glanced.add(hop.session)
                self._start(self._check(point, index))

    def finish(self) -> None:
        """The session has ended: closes its chain when nothing of it is to be checked any more."""
        drawn = list(self._draw()) if self._on and not self._finished else []
        self._finished = True
        if not drawn or not self._start(self._finish(drawn)):
            self._close()

    def _close(self) -> None:
        self._distrust()
        self._chain.close()

    def _draw(self) -> Iterator[tuple[Point, int]]:
        limit = self._auditor.config.max_positions
        for row, length in enumerate(self._feed.history.lengths):
            point = self._ledger.newest(row, limit)
            if point is None or any(hop.leaving for hop in point.hops):
                continue
            for index, hop in enumerate(point.hops):
                rate = self._auditor.rate(hop.hop.peer)
                share = 1.0 if rate >= 1 else rate / 2 * length / point.end
                if hop in self._chain.hops and self._auditor.chance(share):
                    yield point, index

    def _start(self, check: Coroutine[Any, Any, None]) -> bool:
        try:
            task = self._tasks.create_task(check)
        except RuntimeError:
            check.close()  # The client leaves: nobody would wait for it.
            return False
        self._auditor.begin()
        self._running.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._auditor.end()

    async def _finish(self, drawn: list[tuple[Point, int]]) -> None:
        try:
            async with asyncio.timeout(self._auditor.config.patience):
                for point, index in drawn:
                    await self._check(point, index)
        except TimeoutError:
            logger.info("checks of an ended session took too long")
        finally:
            self._close()

    # One check

    async def _check(self, point: Point, index: int) -> None:
        try:
            async with self._auditor.turn:
                if not await self._auditor.witnessed(self._key, point.hops[index].hop):
                    return
                evidence = await self._gather(point, index)
                if evidence is not None:
                    await self._auditor.judge(self._key, evidence)
        except Exception:
            logger.exception("check failed")

    async def _gather(self, point: Point, index: int) -> Evidence | None:
        """What a hop got and gave up to a point, if that is beyond doubt."""
        hop = point.hops[index]
        if not point.joined(index):
            return None
        received = await self._shown(point, index)
        computed = await self._shown(point, index + 1) if received is not None else None
        if received is None or computed is None:
            return None
        if index + 1 == len(point.hops) and not self._as_received(point, computed):
            self._contradicts(hop, "what it sent us is not what it says to have computed")
            return None
        return Evidence(hop.hop, received, computed, self._dtype)

    async def _shown(self, point: Point, index: int) -> memoryview | None:
        """What came into hop `index` of a point, by whoever sent it: the one before, or we."""
        if index == 0:
            pieces = self._feed.history.read(point.row, 0, point.end)
            data = memoryview(b"".join(piece.data for piece in pieces))
            return data if self._stands(point) else None
        hop, epoch = point.hops[index - 1], point.epoch
        if hop not in self._chain.hops or self._chain.epoch != epoch:
            return None
        lengths = tuple(
            point.end if row == point.row else 0 for row in range(len(self._feed.history.lengths))
        )
        try:
            copy = CopyOf(hop, self._position_len)
            data = await copy.fetch(self._auditor.exchange, epoch, point.row, lengths)
        except PeerError as error:
            if self._chain.epoch == epoch and hop in self._chain.hops and self._stands(point):
                self._auditor.refused(hop.hop.peer, str(error))
            return None
        if not self._stands(point) or self._chain.epoch != epoch:
            return None  # What it shows may be newer than the point.
        if traced(data, self._position_len) != point.sent[index]:
            self._contradicts(hop, "what it shows is not what it committed to")
            return None
        return data

    def _stands(self, point: Point) -> bool:
        """Whether the positions of a point are what they were: nothing was rolled back."""
        return self._ledger.valid(point)

    def _as_received(self, point: Point, computed: memoryview) -> bool:
        size = self._position_len
        return all(
            self._ledger.received_as(point.row, each, computed[each * size : (each + 1) * size])
            for each in range(point.end)
        )

    # What is wrong without any witness

    def _contradicts(self, hop: OpenHop, why: str) -> None:
        """A hop contradicts itself. After a recovery it may have computed something anew."""
        if self._chain.epoch == 1:
            self._auditor.catch(hop.hop.peer, why)
        else:
            self._auditor.refused(hop.hop.peer, why)

    def _compare(self, point: Point) -> None:
        for index, hop in enumerate(point.hops):
            if point.joined(index) or hop.session in self._accused or not self._chain.firm(hop):
                continue
            self._accused.add(hop.session)
            if index == 0:
                self._auditor.doubt(hop.hop.peer, "it says to have got what we did not send")
            else:
                before = point.hops[index - 1].hop.peer
                self._auditor.quarrel(before, hop.hop.peer)
                self._left.add(before)
            self._left.add(hop.hop.peer)

    def _miss(self, index: int) -> None:
        """The commitments of hop `index` are not there: it, or any after it, has seen to that."""
        hops = self._chain.hops
        if not hops or hops[index].session in self._accused:
            return
        hop = hops[index]
        self._accused.add(hop.session)
        peers = [each.hop.peer for each in hops[index:]]
        if len(peers) == 1:
            self._auditor.doubt(hop.hop.peer, "it does not say what it has computed")
        else:
            self._auditor.quarrel(*peers)
        self._left.update(peers)
