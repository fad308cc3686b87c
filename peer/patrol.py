"""A peer with time to spare has others compute what it can compute itself, and compares.

Whoever differs may be wrong, or we are: a third peer says. What is asked is nobody's text, but what
our own blocks make of noise, which looks like hidden states.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import SystemRandom

import torch

from swarm.auditing.comparison import Difference, difference
from swarm.auditing.examination import Examination, Question
from swarm.auditing.report import Report
from swarm.auditing.reports import Reports
from swarm.auditing.tolerance import Tolerance, tolerance
from swarm.auditing.verdict import Verdict, verdict
from swarm.checkpoint import Checkpoint
from swarm.directory import Announcement
from swarm.errors import PeerError, SwarmError
from swarm.member import Member
from swarm.transport import Buffer
from swarm.transport.link import Link
from swarm.wire.messages import AnyMessage
from swarm.wire.tensors import from_buffers, to_buffer, wire_dtype

from .hosting import Hosting
from .runner import RowStep, Runner

logger = logging.getLogger(__name__)

_NUM_POSITIONS = 24

_LEAST_PAUSE = 1.0
_IDLE_PAUSE = 5.0
"""Seconds between two comparisons at least, and where there was nothing to compare."""

_PATIENCE = 30.0
"""Seconds that our own share of a comparison may wait for the compute thread."""


class Patrol:
    """Compares a peer with others for `rate` of its time, and reports whom it catches.

    `link` opens the link to a peer.
    """

    def __init__(
        self,
        member: Member,
        checkpoint: Checkpoint,
        rate: float,
        link: Callable[[Announcement], Awaitable[Link]],
    ) -> None:
        self._member = member
        self._checkpoint = checkpoint
        self._rate = rate
        self._link = link
        self._reports = Reports(member.directory, member.membership.standing.member)
        self._examinations: dict[str, Examination] = {}
        self._lot = SystemRandom()
        self.num_compared = 0
        self.num_differing = 0
        self.num_failed = 0
        self.num_caught = 0

    async def run(self, hosting: Callable[[], Hosting | None]) -> None:
        """Compares until cancelled; `hosting` is what is served at the moment."""
        clock = asyncio.get_running_loop().time
        while True:
            started, served = clock(), hosting()
            compared = False
            try:
                if served is not None and not served.handler.num_sessions:
                    compared = await self._round(served)
            except (SwarmError, TimeoutError) as error:
                self.num_failed += 1
                logger.info("not compared why=%s", error or "no time")
            except Exception:
                logger.exception("comparison failed")
            pause = (clock() - started) * (1 / self._rate - 1)
            await asyncio.sleep(max(_LEAST_PAUSE if compared else _IDLE_PAUSE, pause))

    def on_message(self, link: Link, message: AnyMessage, payload: Buffer) -> bool:
        """Takes a message that answers a question of ours; whether it did."""
        examination = self._examinations.get(getattr(message, "session", ""))
        if examination is None:
            return False
        examination.on_message(link, message, payload)
        return True

    def on_lost(self, link: Link, error: PeerError) -> None:
        """A link has ended."""
        for examination in set(self._examinations.values()):
            examination.on_lost(link, error)

    # One comparison

    async def _round(self, hosting: Hosting) -> bool:
        """Asks one peer, and another where that one differs; False if there is nobody to ask."""
        others = await self._others(hosting)
        if not others:
            return False
        suspect = self._lot.choice(others)
        span = hosting.runner.span
        blocks = max(span.start, suspect.start), min(span.end, suspect.end)
        dtype = wire_dtype(span.dtype)
        async with asyncio.timeout(_PATIENCE):
            inputs, ours = await hosting.aside(lambda runner: _example(runner, blocks))
        question = Question(
            self._checkpoint.fingerprint, *blocks, dtype, span.hidden_size, _NUM_POSITIONS
        )
        theirs = await self._ask(suspect, question, inputs)
        apart = difference(theirs, ours, inputs)
        form = str(hosting.form)
        bounds = tolerance(suspect.quantize, form)
        self.num_compared += 1
        if apart.within(bounds):
            return True
        self.num_differing += 1
        third = await self._third(others, suspect, question)
        found = Verdict.UNDECIDED
        if third is not None:
            said = await self._ask(third, question, inputs)
            found = verdict(
                suspect_third=difference(theirs, said, inputs).within(
                    tolerance(suspect.quantize, third.quantize)
                ),
                witness_third=difference(ours, said, inputs).within(
                    tolerance(form, third.quantize)
                ),
            )
        await self._conclude(found, suspect, third, question, (apart, bounds))
        return True

    async def _others(self, hosting: Hosting) -> list[Announcement]:
        span = hosting.runner.span
        found = await self._member.directory.find(self._checkpoint.fingerprint)
        return [
            entry
            for entry in found
            if entry.serving
            and entry.peer != self._member.peer_id
            and max(entry.start, span.start) < min(entry.end, span.end)
        ]

    async def _third(
        self, others: list[Announcement], suspect: Announcement, question: Question
    ) -> Announcement | None:
        """A peer of another member than the suspect and we are, chosen by lot."""
        members = {self._member.membership.standing.member}
        members.add((await self._link(suspect)).standing.member)
        able = [e for e in others if e.start <= question.start and question.end <= e.end]
        for entry in self._lot.sample(able, len(able)):
            try:
                if (await self._link(entry)).standing.member not in members:
                    return entry
            except PeerError as error:
                logger.info("third not met peer=%s why=%s", entry.peer, error)
        return None

    async def _ask(
        self, entry: Announcement, question: Question, inputs: torch.Tensor
    ) -> torch.Tensor:
        examination = Examination(await self._link(entry), question)
        for name in examination.names:
            self._examinations[name] = examination
        try:
            results = await examination.run(to_buffer(inputs, question.dtype))
        finally:
            for name in examination.names:
                del self._examinations[name]
        return from_buffers([results], question.dtype, question.hidden_size)

    async def _conclude(
        self,
        found: Verdict,
        suspect: Announcement,
        third: Announcement | None,
        question: Question,
        measured: tuple[Difference, Tolerance],
    ) -> None:
        apart, bounds = measured
        if found is Verdict.WITNESS:
            logger.error("our own results differ from what two others agree on: look into it")
        if found is not Verdict.SUSPECT or third is None:
            logger.warning("results differ peer=%s usual=%.3f", suspect.peer, apart.usual)
            return
        self.num_caught += 1
        logger.warning("peer caught peer=%s usual=%.3f", suspect.peer, apart.usual)
        report = Report(
            suspect=suspect.peer,
            model=question.model,
            start=question.start,
            end=question.end,
            positions=_NUM_POSITIONS,
            distance=min(apart.usual, 1e6),
            tolerance=bounds.usual,
            witnesses=(self._member.peer_id, third.peer),
            time=time.time(),
        )
        await self._reports.publish(report)


def _example(runner: Runner, blocks: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states `[n, hidden_size]`, and what our own blocks make of them."""
    noise = torch.randn(_NUM_POSITIONS, runner.span.hidden_size)
    dtype = wire_dtype(runner.span.dtype)
    made = _run(runner, noise, (runner.span.start, runner.span.end))
    inputs = from_buffers([to_buffer(made, dtype)], dtype, runner.span.hidden_size)
    return inputs, _run(runner, inputs, blocks).float().cpu()


def _run(runner: Runner, hidden: torch.Tensor, blocks: tuple[int, int]) -> torch.Tensor:
    row = runner.pages.add_row()
    try:
        return runner.run([RowStep(row, 0, len(hidden))], hidden, blocks)
    finally:
        runner.pages.remove_row(row)
