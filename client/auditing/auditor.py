"""What a client checks of its peers' work, and what follows from it; shared by all its sessions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import SystemRandom

from swarm.auditing.report import Report
from swarm.auditing.reports import Reports
from swarm.auditing.verdict import Verdict
from swarm.errors import PeerError, SwarmError

from ..exchange import Exchange
from ..model_key import ModelKey
from ..route import Hop
from ..router import Router
from .config import AuditConfig
from .repute import Repute
from .trial import Court, Evidence, Result

logger = logging.getLogger(__name__)

_READ_INTERVAL = 20.0
"""Seconds between two looks at what others report, while there are sessions."""


@dataclass
class Tally:
    """What this client's checks have cost and brought.

    `computed` and `checked` are in positions times blocks: what peers have computed for its
    sessions, and what has been checked of it. Of checks, `unwitnessed` ones found nobody else who
    serves the blocks, and `failed` ones came to nothing because somebody was gone, say. In
    `contradictions` what a hop said in a step did not fit what others said.
    """

    computed: int = 0
    checked: int = 0
    agreed: int = 0
    caught: int = 0
    undecided: int = 0
    unwitnessed: int = 0
    failed: int = 0
    contradictions: int = 0


class Auditor:
    """Has hops' work done again, one check at a time, and remembers who was found wrong.

    `chance` decides about a probability. What is drawn must be the client's secret: whoever knew
    it would be honest just then.
    """

    def __init__(
        self,
        config: AuditConfig,
        repute: Repute,
        router: Router,
        exchange: Exchange,
        reports: Reports,
        chance: Callable[[float], bool] | None = None,
    ) -> None:
        self.config = config
        self.repute = repute
        self.exchange = exchange
        self.tally = Tally()
        self.num_running = 0
        self._router = router
        self._reports = reports
        self._court = Court(router, exchange)
        self.turn = asyncio.Lock()
        """Held by whoever checks: what is compared takes memory, and everybody's lines."""
        self._active = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        draw = SystemRandom()
        self.chance = chance or (lambda probability: draw.random() < probability)

    @property
    def enabled(self) -> bool:
        """Whether this client checks anything."""
        return self.config.rate > 0

    def rate(self, peer: str) -> float:
        """The part of a peer's work that is to be checked now."""
        return self.repute.rate(peer, _now())

    def note(self, positions: int, num_blocks: int) -> None:
        """Peers have computed so much for a session."""
        self.tally.computed += positions * num_blocks
        self._active.set()

    # What is found out

    async def witnessed(self, key: ModelKey, hop: Hop) -> bool:
        """Whether anybody else serves a hop's blocks: else it need not show what it has done."""
        try:
            found = await self._court.convenes(key, hop)
        except SwarmError as error:
            self.tally.failed += 1
            logger.info("no witness met hop=%s why=%s", hop, error)
            return False
        if not found:
            self.tally.unwitnessed += 1
        return found

    async def judge(self, key: ModelKey, evidence: Evidence) -> Result | None:
        """Has others do a hop's work again; None if that came to nothing."""
        tally, hop = self.tally, evidence.hop
        try:
            result = await self._court.hold(key, evidence)
        except PeerError as error:
            tally.failed += 1
            logger.info("check failed hop=%s why=%s", hop, error)
            return None
        if result is None:
            tally.unwitnessed += 1
            return None
        tally.checked += result.positions * (hop.end - hop.start)
        await self._conclude(key, result)
        return result

    async def _conclude(self, key: ModelKey, result: Result) -> None:
        now, tally = _now(), self.tally
        if result.verdict is Verdict.AGREED:
            tally.agreed += 1
            self.repute.agree(result.hop.peer)
        elif not result.wrong:
            tally.undecided += 1
            logger.warning(
                "results differ, and nobody can say whose are right hop=%s usual=%.3f",
                result.hop,
                result.apart.usual,
            )
            for peer in (result.hop.peer, *result.agreeing):
                self.repute.watch(peer, now)
        else:
            self.catch(result.wrong, f"its results for blocks {_span(result)} are wrong")
            await self._reports.publish(_report(key, result))

    def catch(self, peer: str, why: str) -> None:
        """A peer was found out: no route of this client leads through it for long."""
        logger.warning("peer caught peer=%s why=%s", peer, why)
        self.tally.caught += 1
        self.repute.catch(peer, _now())

    def refused(self, peer: str, why: str) -> None:
        """A peer has not shown what it had committed to."""
        logger.info("nothing to check peer=%s why=%s", peer, why)
        self.tally.failed += 1
        self.repute.refuse(peer, _now())

    def doubt(self, peer: str, why: str) -> None:
        """What a peer does cannot be checked, and that is its own doing."""
        logger.warning("peer in doubt peer=%s why=%s", peer, why)
        self.tally.contradictions += 1
        self.repute.doubt(peer, _now())

    def quarrel(self, *peers: str) -> None:
        """Of hops in a row one lies about what passed between them: they are kept apart."""
        logger.warning("hops contradict each other peers=%s", " ".join(peers))
        self.tally.contradictions += 1
        self.repute.quarrel({peer: self._router.member(peer) for peer in peers}, _now())
        for before, after in pairwise(peers):
            self._router.separate(before, after)

    def caught(self) -> frozenset[str]:
        """Peers that were found out."""
        return self.repute.caught(_now())

    # Running

    def begin(self) -> None:
        """A check begins."""
        self.num_running += 1
        self._idle.clear()

    def end(self) -> None:
        """A check has ended."""
        self.num_running -= 1
        if not self.num_running:
            self._idle.set()

    async def idle(self) -> None:
        """Returns when no check is under way."""
        await self._idle.wait()

    async def run(self) -> None:
        """Reads what others report, until cancelled; while no session runs, nothing is done."""
        while True:
            await self._active.wait()
            self._active.clear()
            try:
                for suspect in await self._reports.news():
                    self.repute.watch(suspect, _now())
            except SwarmError as error:
                logger.debug("reports not read why=%s", error)
            await asyncio.sleep(_READ_INTERVAL)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _span(result: Result) -> str:
    return f"{result.hop.start}:{result.hop.end}"


def _report(key: ModelKey, result: Result) -> Report:
    hop = result.hop
    return Report(
        suspect=result.wrong,
        model=key.fingerprint,
        start=hop.start,
        end=hop.end,
        positions=result.positions,
        distance=min(result.apart.usual, 1e6),
        tolerance=result.bounds.usual,
        witnesses=result.agreeing[:8],
        time=time.time(),
    )
