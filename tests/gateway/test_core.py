"""Making answers: refusals before anything is paid for, turns, and ends of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from swarm.client import Finish, RemoteModel, Reply, SamplingConfig
from swarm.client.choices import Choices
from swarm.client.piece import Piece
from swarm.errors import NoRouteError, RequestError
from swarm.gateway.answer import Caller
from swarm.gateway.ask import Ask, Text, Tokens
from swarm.gateway.config import GatewayConfig
from swarm.gateway.core import Core
from swarm.gateway.events import Said
from swarm.gateway.refusals import Reason, Refusal
from swarm.gateway.traffic import stopping

ME = Caller("me")


@dataclass
class Key:
    context_length: int = 32


@dataclass
class Head:
    vocab_size: int = 10


@dataclass(eq=False)
class Model:
    """Says "ab", then waits for `goes_on`, then says "c"."""

    key: Key = field(default_factory=Key)
    head: Head = field(default_factory=Head)
    gaps: tuple[tuple[int, int], ...] = ()
    error: Exception | None = None
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    num_encoded: int = 0
    num_open: int = 0

    async def missing(self) -> tuple[tuple[int, int], ...]:
        return self.gaps

    def encode(self, prompt: str, *, raw: bool = False) -> list[int]:
        self.num_encoded += 1
        if not prompt:
            raise RequestError("the prompt is empty")
        return [1] * len(prompt)

    async def pieces(self, reply: Reply, *_: Any) -> AsyncGenerator[Piece, None]:
        self.num_open += 1
        try:
            if self.error is not None:
                raise self.error
            for text in ("a", "b", "c"):
                reply.ids.append(2)
                yield Piece(text, ())
                if text == "b":
                    await self.goes_on.wait()
            reply.finish = Finish.LENGTH
        finally:
            self.num_open -= 1

    def choices(
        self, replies: Sequence[Reply], sampling: SamplingConfig, *_: Any
    ) -> AsyncGenerator[tuple[int, Piece | None], None]:
        return Choices(self.pieces, replies, sampling, one_ahead=False).told()


def core(model: Model, **options: Any) -> Core:
    settings = {"wait": 5.0, **options}
    return Core({"tiny": cast(RemoteModel, model)}, GatewayConfig(**settings))


def ask(text: str = "hello", **options: Any) -> Ask:
    sampling = SamplingConfig(max_new_tokens=3)
    return Ask("tiny", Text(text), sampling, **options)


async def text_of(core: Core, wanted: Ask, caller: Caller = ME) -> str:
    async with core.answering(wanted, caller) as answer:
        said = [event async for event in answer.work.events()]
    return "".join(event.text for event in said if isinstance(event, Said))


async def refusal(core: Core, wanted: Ask) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await text_of(core, wanted)
    return refused.value


async def settled() -> None:
    async with asyncio.timeout(60):
        for _ in range(3):
            await asyncio.to_thread(int)
            for _ in range(20):
                await asyncio.sleep(0)


async def test_an_answer_comes_bit_by_bit() -> None:
    model = Model()
    async with core(model).answering(ask(), ME) as answer:
        events = answer.work.events()
        assert isinstance(first := await anext(events), Said) and first.text == "a"
        assert answer.work.usage.num_prompt == 5
        model.goes_on.set()
        assert [event async for event in events]
    assert model.num_open == 0


async def test_what_cannot_be_answered_is_told_and_takes_no_place() -> None:
    model = Model()
    gateway = core(model, most_choices=2)
    unknown = Ask("other", Text("hello"), SamplingConfig())
    for wanted, reason, param in (
        (unknown, Reason.UNKNOWN_MODEL, "model"),
        (ask("x" * 30), Reason.TOO_LONG, "prompt"),
        (ask(""), Reason.INVALID, "prompt"),
        (ask(num_choices=3), Reason.INVALID, "n"),
        (ask(best_of=3), Reason.INVALID, "best_of"),
    ):
        refused = await refusal(gateway, wanted)
        assert (refused.reason, refused.param) == (reason, param)
    assert gateway.turnstile.num_places == 0
    crowded = await refusal(core(model, most_running=2), ask(num_choices=3))
    assert (crowded.reason, crowded.param) == (Reason.INVALID, "n")


async def test_errors_of_the_swarm_come_in_the_answers_place() -> None:
    model = Model(error=NoRouteError(((3, 5),)))
    refused = await refusal(core(model), ask())
    assert refused.reason is Reason.NO_ROUTE and "3:5" in str(refused) and refused.retry_after


@pytest.mark.simulated_time
async def test_where_blocks_are_missing_nobody_waits_for_longer_than_was_said() -> None:
    model = Model(gaps=((3, 5),))
    gateway, loop = core(model), asyncio.get_running_loop()
    refused = await refusal(gateway, ask())
    assert refused.reason is Reason.NO_ROUTE and "3:5" in str(refused)
    assert loop.time() == pytest.approx(5, abs=1.1)
    came = loop.time()
    await refusal(gateway, ask())
    assert loop.time() - came < 0.5, "others have waited for this already"
    (card,) = await gateway.models()
    assert not card.has_route and card.missing == ((3, 5),)


@pytest.mark.simulated_time
async def test_blocks_that_come_to_be_missing_end_the_wait_for_a_turn() -> None:
    model = Model()
    gateway = core(model, most_running=1)
    async with gateway.answering(ask(), ME):
        waiting = asyncio.ensure_future(refusal(gateway, ask()))
        await asyncio.sleep(3)
        assert gateway.turnstile.num_waiting == 1
        model.gaps = ((0, 1),)
        assert (await waiting).reason is Reason.NO_ROUTE
        assert gateway.turnstile.num_waiting == 0


async def test_turns_are_taken_and_given_back() -> None:
    model = Model()
    gateway = core(model, most_running=2, most_waiting=1)
    async with gateway.answering(ask(num_choices=2), ME) as first:
        waiting = asyncio.ensure_future(text_of(gateway, ask()))
        await settled()
        assert gateway.turnstile.num_waiting == 1 and model.num_open == 2
        encoded = model.num_encoded
        refused = await refusal(gateway, ask())
        assert refused.reason is Reason.BUSY and refused.retry_after
        assert model.num_encoded == encoded, "nothing is read for those who are refused"
        model.goes_on.set()
        assert [event async for event in first.work.events()]
    assert await waiting == "abc"
    assert gateway.turnstile.num_places == 0


@pytest.mark.parametrize("state", ["waiting", "running"])
async def test_who_goes_away_leaves_nothing_behind(state: str) -> None:
    model = Model()
    gateway = core(model, most_running=1)
    running = asyncio.ensure_future(text_of(gateway, ask()))
    await settled()
    waiting = asyncio.ensure_future(text_of(gateway, ask()))
    await settled()
    assert (gateway.turnstile.num_places, gateway.turnstile.num_waiting) == (1, 1)
    leaving, staying = (waiting, running) if state == "waiting" else (running, waiting)
    leaving.cancel()
    await settled()
    assert (gateway.turnstile.num_places, gateway.turnstile.num_waiting) == (1, 0)
    assert model.num_open == 1
    model.goes_on.set()
    assert await staying == "abc"
    assert (gateway.turnstile.num_places, model.num_open) == (0, 0)


async def test_stopping_ends_what_waits_and_what_runs() -> None:
    model = Model()
    gateway = core(model, most_running=1)
    async with gateway.answering(ask(), ME) as answer:
        events = answer.work.events()
        await anext(events)
        waiting = asyncio.ensure_future(refusal(gateway, ask()))
        await settled()
        gateway.stop(stopping())
        assert (await waiting).reason is Reason.STOPPING
        with pytest.raises(Refusal, match="stopping"):
            async for _ in events:
                pass
    assert (await refusal(gateway, ask())).reason is Reason.STOPPING


async def test_tokens_are_counted_as_the_model_reads_them() -> None:
    gateway = core(Model())
    assert await gateway.count("tiny", Text("hello")) == 5
    assert await gateway.count("tiny", Tokens((1, 2))) == 2
    with pytest.raises(Refusal):
        await gateway.count("tiny", Text(""))


async def test_models_may_come_later() -> None:
    gateway, late = core(Model()), cast(RemoteModel, Model(gaps=((2, 4),)))
    gateway.add("late", late)
    gateway.add("alias", late)
    cards = {card.name: card.has_route for card in await gateway.models()}
    assert cards == {"tiny": True, "late": False, "alias": False}
    assert await gateway.count("alias", Text("abc")) == 3
