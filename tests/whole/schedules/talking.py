"""A client of a schedule: asks as its `Talk` says, and remembers what it was answered."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from schedule import Again, Back, Guess, Hasten, Move, Pause, Say, Shuffle, Talk, Write

from swarm.client import RemoteModel, Reply, RowInput, SamplingConfig, Session, SpeculationConfig
from swarm.client.decoding import Decoding
from swarm.client.speculation import guess
from swarm.client.speculation.speculator import Speculator
from swarm.errors import NoRouteError
from swarm.wire.messages import Want

TOLERANCE = 1e-3


class Undisturbed:
    """What transformers itself says, whatever happens to the swarm."""

    def __init__(self, model: Any) -> None:
        self.vocab_size = int(model.config.vocab_size)
        self._model = model
        self.logits = cache(self._logits)

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The `count` tokens that come after `ids`."""
        found = list(ids)
        for _ in range(count):
            found.append(int(self.logits(tuple(found))[-1].argmax()))
        return found[len(ids) :]

    def _logits(self, ids: tuple[int, ...]) -> torch.Tensor:
        with torch.inference_mode():
            return self._model(torch.tensor([ids])).logits[0]


@dataclass
class _Knowing:
    """A drafter that knows the whole text, and errs every so often."""

    text: list[int]
    errs: int
    vocab_size: int
    _length: int = 0

    def push(self, token: int) -> None:
        self._length += 1

    def guesses(self) -> Iterator[guess.Guess]:
        grade = guess.Grade("knowing", 0, 0.5)
        for at, token in enumerate(self.text[self._length :], start=self._length):
            said = (token + 1) % self.vocab_size if at % self.errs == 0 else token
            yield guess.Guess(said, grade)


@dataclass(frozen=True)
class _Answer:
    """Logits of the last positions of `ids`."""

    ids: tuple[int, ...]
    logits: torch.Tensor


@dataclass
class Talker:
    """Plays a talk. `on_answer` is called after each step, `on_missing` where blocks are."""

    talk: Talk
    model: RemoteModel
    undisturbed: Undisturbed
    on_answer: Callable[[], None]
    on_missing: Callable[[NoRouteError], Awaitable[None]]
    session: Session | None = None
    _answers: list[_Answer] = field(default_factory=list)
    _texts: list[list[int]] = field(default_factory=list)
    _sent: list[int] = field(default_factory=list)
    _order: tuple[int, ...] | None = None
    _haste: float | None = None

    async def play(self) -> None:
        """Asks everything; raises whatever a user would see."""
        await asyncio.sleep(self.talk.after)
        draw, vocabulary = random.Random(self.talk.seed), range(self.undisturbed.vocab_size)
        for _ in range(self.talk.num_rows):
            self._texts.append(draw.choices(vocabulary, k=self.talk.length))
        self._begin()
        try:
            for move in self.talk.moves:
                await self._move(move)
        finally:
            self._end()

    def _begin(self) -> None:
        self._sent, self._order = [0] * self.talk.num_rows, None
        self.session = self.model.session(self.talk.num_rows)

    def _end(self) -> None:
        if self.session is not None:
            self.session.close()

    def check(self) -> None:
        """Compares every answer with the undisturbed one."""
        whole: list[tuple[int, ...]] = []
        for answer in sorted(self._answers, key=lambda a: -len(a.ids)):
            size = len(answer.ids)
            ids = next((ids for ids in whole if ids[:size] == answer.ids), None)
            if ids is None:
                ids = answer.ids
                whole.append(ids)
            expected = self.undisturbed.logits(ids)[size - len(answer.logits) : size]
            said, right = answer.logits.argmax(-1).tolist(), expected.argmax(-1).tolist()
            assert said == right, f"after {answer.ids}: {said} instead of {right}"
            apart = float((answer.logits - expected).abs().max())
            assert apart < TOLERANCE, f"after {answer.ids}: logits are {apart} apart"

    async def _move(self, move: Move) -> None:
        match move:
            case Say(count, row):
                for _ in range(count):
                    await self._say(row)
            case Guess(right, wrong):
                await self._guess(right, wrong)
            case Back(count, row):
                for index in self._rows(row):
                    self._back(index, count)
            case Shuffle(order):
                order = tuple(order[i % len(order)] for i in range(self.talk.num_rows))
                self._shuffle(tuple(source % self.talk.num_rows for source in order))
            case Hasten(seconds):
                self._haste = seconds
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Again():
                self._end()
                self._begin()
            case Write():
                await self._write(move)

    def _rows(self, row: int | None) -> list[int]:
        return list(range(self.talk.num_rows)) if row is None else [row % self.talk.num_rows]

    def _back(self, row: int, count: int) -> None:
        text = self._texts[row]
        rest = max(0, len(text) - count)
        other = (text[rest] + 1) % self.undisturbed.vocab_size if rest < len(text) else 1
        self._texts[row] = [*text[:rest], other]
        self._sent[row] = min(self._sent[row], rest)

    def _shuffle(self, order: tuple[int, ...]) -> None:
        if not any(self._sent):
            return
        self._texts = [list(self._texts[source]) for source in order]
        self._sent = [self._sent[source] for source in order]
        before = self._order or tuple(range(self.talk.num_rows))
        self._order = tuple(before[source] for source in order)

    async def _say(self, row: int | None) -> None:
        rows = self._rows(row)
        outputs = await self._step({row: self._texts[row] for row in rows}, Want.LAST)
        for row, logits in outputs.items():
            self._sent[row] = len(self._texts[row])
            self._texts[row].append(int(logits[-1].argmax()))

    async def _guess(self, right: int, wrong: int) -> None:
        guesses: dict[int, list[int]] = {}
        for row, text in enumerate(self._texts):
            true = self.undisturbed.greedy(text, right + wrong)
            false = [(token + 1) % self.undisturbed.vocab_size for token in true[right:]]
            guesses[row] = true[:right] + false
        asked = {row: [*text, *guesses[row]] for row, text in enumerate(self._texts)}
        outputs = await self._step(asked, Want.ALL)
        for row, logits in outputs.items():
            said = logits[-(right + wrong) - 1 :].argmax(-1).tolist()
            agreed = 0
            while agreed < right + wrong and guesses[row][agreed] == said[agreed]:
                agreed += 1
            self._texts[row] += [*guesses[row][:agreed], said[agreed]]
            self._sent[row] = len(self._texts[row]) - 1

    async def _write(self, move: Write) -> None:
        (text,) = self._texts
        vocab_size = self.undisturbed.vocab_size
        true = [*text, *self.undisturbed.greedy(text, move.count)]
        reply = Reply(list(text))
        while len(reply.ids) < move.count:
            speculator = Speculator(
                SpeculationConfig(move.window), [_Knowing(true, move.errs, vocab_size)]
            )
            try:
                await self._go_on(reply, SamplingConfig(max_new_tokens=move.count), speculator)
            except NoRouteError as error:
                await self.on_missing(error)
        assert [*text, *reply.ids] == true, f"after {text}: {reply.ids}"
        self._texts, self._sent = [true], [len(true) - 1]

    async def _go_on(self, reply: Reply, sampling: SamplingConfig, speculator: Speculator) -> None:
        assert self.session is not None
        decoding = Decoding(self.session, self.model.readout, reply, sampling, set(), speculator)
        async with aclosing(decoding.tokens()) as tokens:
            async for _ in tokens:
                self.on_answer()

    async def _step(self, texts: dict[int, list[int]], want: Want) -> dict[int, torch.Tensor]:
        logits = self.model.head.logits
        while (results := await self._ask(texts, want)) is None:
            if want is Want.LAST:  # Something else is asked in place of what took too long.
                for text in texts.values():
                    text[-1] = (text[-1] + 1) % self.undisturbed.vocab_size
        found = {row: logits(out) for row, out in zip(texts, results, strict=True)}
        self._answers += [_Answer(tuple(texts[row]), said) for row, said in found.items()]
        self.on_answer()
        return found

    async def _ask(self, texts: dict[int, list[int]], want: Want) -> list[torch.Tensor] | None:
        """One step's outputs, or None if they did not come in haste."""
        assert self.session is not None
        embed = self.model.head.embed
        news = {row: text[self._sent[row] :] for row, text in texts.items()}
        rows = [
            RowInput(row, self._sent[row], embed(torch.tensor(ids)), tuple(ids))
            for row, ids in news.items()
        ]
        while True:
            # What was asked in vain has reordered the rows already.
            order, self._order = self._order, None
            haste, self._haste = self._haste, None
            try:
                async with asyncio.timeout(haste):
                    return await self.session.step(rows, want, order)
            except TimeoutError:
                assert haste is not None
                return None
            except NoRouteError as error:
                await self.on_missing(error)
