"""One hop's work, done again by others: what it got and gave, and what they make of the same.

A hop is found wrong only where nothing hangs on another's word. Both it and the hop before it have
committed themselves to what it received, in the step itself; it has committed itself to what it
computed from that; and two other peers, of two other members, asked by the client itself, agree
with each other and not with it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from swarm.auditing.comparison import Difference, difference
from swarm.auditing.examination import Examination, Question
from swarm.auditing.tolerance import Tolerance, tolerance
from swarm.auditing.verdict import Verdict, verdict
from swarm.errors import NoRouteError, PeerError
from swarm.wire.messages import DType
from swarm.wire.tensors import from_buffers

from ..exchange import Exchange
from ..model_key import ModelKey
from ..route import Hop
from ..router import Router

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evidence:
    """What a hop has received and what it has computed from it: bytes of the same positions."""

    hop: Hop
    received: memoryview
    computed: memoryview
    dtype: DType


@dataclass(frozen=True)
class Result:
    """How a trial has ended, over `positions`; `wrong` is the peer that was found wrong.

    `apart` is how far the hop's results were from the first witness's, beside what is tolerated.
    The `agreeing` peers spoke against the wrong one, or where that is undecided, against the hop.
    """

    verdict: Verdict
    positions: int
    hop: Hop
    apart: Difference
    bounds: Tolerance
    wrong: str = ""
    agreeing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Statement:
    """What some peers say that comes out: their results, and the forms of their weights."""

    peers: tuple[str, ...]
    forms: tuple[str, ...]
    results: memoryview


class Court:
    """Finds witnesses and asks them. Stateless; shared by all sessions of a client."""

    def __init__(self, router: Router, exchange: Exchange) -> None:
        self._router = router
        self._exchange = exchange

    async def convenes(self, key: ModelKey, hop: Hop) -> bool:
        """Whether anybody else could do a hop's work again."""
        try:
            await self._router.others(key, (hop.start, hop.end), frozenset({hop.peer}))
        except NoRouteError:
            return False
        return True

    async def hold(self, key: ModelKey, evidence: Evidence) -> Result | None:
        """Has others do a hop's work again; None where there are no others.

        Raises `PeerError` if those who were asked did not answer: that says nothing of anybody.
        """
        hop = evidence.hop
        positions = len(evidence.received) // evidence.dtype.position_len(key.hidden_size)
        suspect = _Statement((hop.peer,), self._forms(key, hop.peer), evidence.computed)
        try:
            witness = await self._ask(key, evidence, frozenset({hop.peer}))
        except NoRouteError:
            return None
        apart, bounds = self._compare(key, evidence, suspect, witness)
        if apart.within(bounds):
            return Result(Verdict.AGREED, positions, hop, apart, bounds)
        logger.info(
            "results differ hop=%s witness=%s usual=%.3f largest=%.3f",
            hop,
            ",".join(peer[-8:] for peer in witness.peers),
            apart.usual,
            apart.largest,
        )
        undecided = Result(Verdict.UNDECIDED, positions, hop, apart, bounds, "", witness.peers)
        third = await self._third(key, evidence, frozenset({hop.peer, *witness.peers}))
        if third is None:
            return undecided
        beside, near = self._compare(key, evidence, suspect, third)
        between, close = self._compare(key, evidence, witness, third)
        found = verdict(suspect_third=beside.within(near), witness_third=between.within(close))
        if found is Verdict.SUSPECT:
            agreeing = witness.peers + third.peers
            return replace(undecided, verdict=found, wrong=hop.peer, agreeing=agreeing)
        if found is Verdict.WITNESS and len(witness.peers) == 1:
            agreeing = (hop.peer, *third.peers)
            return replace(undecided, verdict=found, wrong=witness.peers[0], agreeing=agreeing)
        return undecided

    async def _third(
        self, key: ModelKey, evidence: Evidence, others: frozenset[str]
    ) -> _Statement | None:
        try:
            return await self._ask(key, evidence, others)
        except (NoRouteError, PeerError) as error:
            logger.info("no third opinion why=%s", error)
            return None

    async def _ask(self, key: ModelKey, evidence: Evidence, excluded: frozenset[str]) -> _Statement:
        """What other peers make of the same inputs, one after the other where it takes several."""
        hop, data = evidence.hop, evidence.received
        # Of one person's peers, two would be as good as one.
        route = await self._router.others(key, (hop.start, hop.end), excluded)
        for part in route:
            question = Question(
                key.fingerprint, part.start, part.end, evidence.dtype, key.hidden_size
            )
            data = await self._run(part, question, data)
        peers = tuple(part.peer for part in route)
        forms = tuple(form for peer in peers for form in self._forms(key, peer))
        return _Statement(peers, forms, data)

    async def _run(self, hop: Hop, question: Question, inputs: memoryview) -> memoryview:
        examination = Examination(await self._router.link(hop), question)
        for name in examination.names:
            self._exchange.register(name, examination)
        try:
            return await examination.run(inputs)
        finally:
            for name in examination.names:
                self._exchange.unregister(name)

    def _forms(self, key: ModelKey, peer: str) -> tuple[str, ...]:
        return (self._router.form(key.fingerprint, peer),)

    def _compare(
        self, key: ModelKey, evidence: Evidence, one: _Statement, other: _Statement
    ) -> tuple[Difference, Tolerance]:
        dtype, size = evidence.dtype, key.hidden_size
        inputs, first, second = (
            from_buffers([data], dtype, size)
            for data in (evidence.received, one.results, other.results)
        )
        return difference(first, second, inputs), tolerance(*one.forms, *other.forms)
