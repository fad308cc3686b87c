"""How a reply grows: token after token, or several at a time where guesses come true.

Speculation changes no reply. Guesses travel with the newest token as one step, and the blocks'
outputs come back for all of them. At each position the reply's own sampler then draws the token
just as it would without guesses: from the same logits (those of the true text, as every guess
before has come true), with the same processors over the same text, and with the same state of its
random generator, since it draws once for each token that is kept, in order. A guess is right if it
is what was drawn. The first that is not ends the window, and what was drawn stands in its place.

So no rejected guess needs to be made up for, as it does where guesses are drawn from distributions
of their own (Y. Leviathan et al., "Fast inference from transformers via speculative decoding",
2023). Ours are single tokens; such a guess `x` comes true with the probability `p(x)` under either
rule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import torch

from swarm.wire.messages import Want

from .chunks import RowInput
from .logprobs import score
from .readout import HEAD_LEN, Readout
from .reply import Finish, Reply
from .sampling import SamplingConfig
from .session import Session
from .speculation.speculator import Speculator
from .timing import ChangeKind, RouteChange


class Decoding:
    """Writes one reply over a fresh session. `ends` are the tokens that end it."""

    def __init__(
        self,
        session: Session,
        readout: Readout,
        reply: Reply,
        sampling: SamplingConfig,
        ends: set[int],
        speculator: Speculator,
    ) -> None:
        self._session = session
        self._readout = readout
        self._reply = reply
        self._sampling = sampling
        self._ends = ends
        self._speculator = speculator
        self._sampler = reply.sampler(sampling)
        self._ids = torch.tensor([*reply.prompt_ids, *reply.ids])
        self._clock = 0.0
        self._seconds = 0.0
        self._step_seconds = 0.0
        self._names: tuple[str, ...] = ()
        self._num_handovers = 0

    async def tokens(self) -> AsyncGenerator[int, None]:
        """Adds tokens to the reply, and yields each that is part of its text."""
        reply = self._reply
        self._speculator.push(self._ids.tolist())
        self._speculator.prepare()
        self._clock = time.perf_counter()
        position, fresh, prefill = 0, self._ids, True
        while reply.finish is None and (self._room > 0 or self._unscored):
            drafts = [] if prefill else await self._speculator.draft(self._room - 1)
            num_recoveries = self._num_recoveries
            outputs = await self._step(position, fresh, drafts)
            self._note(prefill=prefill)
            if self._unscored:
                await self._score_prompt(outputs)
                outputs = outputs[-1:]
                if not self._room:
                    reply.finish = Finish.LENGTH
                    return
            disturbed = prefill or self._num_recoveries != num_recoveries
            self._time(prefill=prefill, disturbed=disturbed)
            drawn: list[int] = []
            async with aclosing(self._draw(outputs, drafts)) as tokens:
                async for token in tokens:
                    drawn.append(token)
                    if token not in self._ends:
                        yield token
                    # Lets a caller who only consumes be cancelled and others' messages through.
                    await asyncio.sleep(0)
            self._speculator.note(drawn, None if disturbed else self._seconds)
            position, fresh, prefill = len(self._ids) - 1, self._ids[-1:], False

    @property
    def _room(self) -> int:
        """Tokens that may still come."""
        return self._sampling.max_new_tokens - len(self._reply.ids)

    @property
    def _unscored(self) -> bool:
        """Whether all of the prompt is to be computed, to see how likely it is."""
        return self._sampling.prompt_logprobs is not None and self._reply.prompt_scores is None

    @property
    def _num_recoveries(self) -> int:
        return self._session.num_recoveries + self._session.num_handovers

    async def _step(
        self, position: int, fresh: torch.Tensor, drafts: Sequence[int]
    ) -> torch.Tensor:
        """The blocks' outputs `[1 + len(drafts), hidden_size]` for the newest token and guesses.

        A prompt that is to be scored has one for each of its tokens, `[len(fresh), hidden_size]`.
        What the session holds from `position` on, guesses that did not come true, is rolled back.
        """
        started = time.perf_counter()
        ids = [*fresh.tolist(), *drafts]
        row = RowInput(0, position, self._readout.head.embed(torch.tensor(ids)), tuple(ids))
        embedded = time.perf_counter()
        want = Want.ALL if drafts or self._unscored else Want.LAST
        (outputs,) = await self._session.step([row], want)
        self._reply.num_drafted += len(drafts)
        now = time.perf_counter()
        self._reply.timing.head += embedded - started
        self._step_seconds, self._seconds = now - embedded, now - started
        return outputs

    async def _score_prompt(self, outputs: torch.Tensor) -> None:
        num_top = self._sampling.prompt_logprobs
        assert num_top is not None
        tokens = self._reply.prompt_ids[1:]
        self._reply.prompt_scores = await self._readout.scores(
            outputs[: len(tokens)], tokens, num_top
        )

    async def _draw(
        self, outputs: torch.Tensor, drafts: Sequence[int]
    ) -> AsyncGenerator[int, None]:
        """Adds tokens to the reply, up to its end or the first that is not the one guessed."""
        reply, guesses = self._reply, [*drafts, None]
        for start in range(0, len(outputs), HEAD_LEN):
            started = time.perf_counter()
            part = await self._readout.logits(outputs[start : start + HEAD_LEN])
            taken = time.perf_counter() - started
            self._seconds += taken
            reply.timing.head += taken
            for logits, guess in zip(part, guesses[start:], strict=False):
                started = time.perf_counter()
                token = self._sampler.choose(self._ids, logits)
                reply.timing.sampling += time.perf_counter() - started
                self._ids = torch.cat([self._ids, torch.tensor([token])])
                if self._sampling.logprobs is not None:
                    reply.scores[len(reply.ids)] = score(logits, token, self._sampling.logprobs)
                reply.ids.append(token)
                if token in self._ends or self._sampler.finished:
                    reply.finish = Finish.EOS
                elif not self._room:
                    reply.finish = Finish.LENGTH
                goes_on = token == guess and reply.finish is None
                reply.num_accepted += goes_on
                yield token
                if not goes_on:
                    return

    def _note(self, *, prefill: bool) -> None:
        reply, session, now = self._reply, self._session, time.perf_counter()
        if prefill:
            reply.prefill_seconds += now - self._clock
            reply.num_cached = session.num_recalled
        else:
            reply.decode_seconds += now - self._clock
            reply.num_steps += 1
            reply.note_times(session.last_times)
        self._clock = now
        if session.route != reply.route or prefill:
            self._speculator.expect(sum(hop.prefill_seconds for hop in session.route))
        reply.route, reply.num_recoveries = session.route, session.num_recoveries
        reply.num_handovers = session.num_handovers
        reply.distrusted = session.distrusted

    def _time(self, *, prefill: bool, disturbed: bool) -> None:
        """Notes where the time of a decode step went, and through whom."""
        timing, passage = self._reply.timing, self._session.passage
        num_handovers = self._session.num_handovers
        if not prefill and disturbed:
            timing.disturb(self._step_seconds)
            kind: ChangeKind = "handover" if num_handovers > self._num_handovers else "recovery"
            num_tokens = len(self._reply.ids)
            change = RouteChange.between(self._names, passage.names, num_tokens, kind)
            timing.changes.append(change)
        elif not prefill:
            timing.add(passage, self._step_seconds)
            self._session.tell(passage, self._step_seconds)
        self._names, self._num_handovers = passage.names, num_handovers
